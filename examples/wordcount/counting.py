"""What is counted of one Python file."""

from __future__ import annotations

import hashlib
import re
import tokenize
from pathlib import Path
from typing import TypedDict

_WORD = re.compile(r"\w+")


class Count(TypedDict):
    """The figures of one file. Those of text are 0 where `undecodable`."""

    lines: int
    words: int
    identifiers: int
    """Different words of the text that could be Python names."""
    sha256: str
    undecodable: bool


def count(path: str) -> Count:
    """Count a file, read in the encoding that it declares, as Python itself would read it. Raises OSError."""
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    try:
        with tokenize.open(path) as file:
            text = file.read()
    except (SyntaxError, UnicodeDecodeError):
        return Count(lines=0, words=0, identifiers=0, sha256=sha256, undecodable=True)
    lines = text.count("\n")
    if text and not text.endswith("\n"):
        lines += 1
    identifiers = {word for word in _WORD.findall(text) if word.isidentifier()}
    return Count(lines=lines, words=len(text.split()), identifiers=len(identifiers), sha256=sha256, undecodable=False)
