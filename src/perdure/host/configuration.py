"""host.json: JSON with comments and trailing commas. Environment variables override it; case makes no difference.

A path names a level after the other, separated by ":", the elements of an array by their index: "functions:0". The
environment variable `AzureFunctionsJobHost__extensions__http__routePrefix` overrides "extensions:http:routePrefix".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from perdure.host.problems import Location, SettingsProblem

_OVERRIDE_PREFIX = "azurefunctionsjobhost:"
_STRING = r'"(?:[^"\\\n]|\\.)*"'
_COMMENT = re.compile(_STRING + r"|//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_TRAILING_COMMA = re.compile(_STRING + r"|[\[{]\s*,|,(?=\s*[\]}])")
"""Or what is to be left alone: a string, and a comma that no value stands before."""


def standard_json(text: str) -> str:
    """`text` with `//` and `/* */` comments, and then the comma after a last element, blanked out.

    Every other character keeps its line and column.
    """

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        return token if token[0] in '"[{' else re.sub(r"[^\r\n]", " ", token)

    return _TRAILING_COMMA.sub(blank, _COMMENT.sub(blank, text))


def read_json_object(path: Path) -> dict[str, Any]:
    """The content of a file that holds a JSON object, read by `standard_json`. Raises OSError, ValueError."""
    content: Any = json.loads(standard_json(path.read_text(encoding="utf-8-sig")))
    if not isinstance(content, dict):
        raise ValueError("a JSON object is expected")
    return cast("dict[str, Any]", content)


class Configuration:
    """The values of a host.json. Empty texts, objects and arrays, and null, count as not given."""

    def __init__(self, content: dict[str, Any], environment: Mapping[str, str], file: Path) -> None:
        self._file = file
        self._values: dict[str, Any] = {}
        self._flatten("", content)
        for name, value in environment.items():
            path = name.replace("__", ":").lower()
            if path.startswith(_OVERRIDE_PREFIX):
                self._values[path[len(_OVERRIDE_PREFIX) :]] = value

    def text(self, path: str) -> str | None:
        """As text; "" counts as given."""
        value = self._values.get(path.lower())
        if value is None or isinstance(value, str):
            return value
        return json.dumps(value)

    def positive(self, path: str) -> int | None:
        """A whole number above 0. Raises SettingsProblem."""
        text = self.text(path)
        if text is None:
            return None
        try:
            value = int(text)
        except ValueError:
            value = 0
        if value < 1:
            key = path.rpartition(":")[2]
            raise SettingsProblem(
                f"{self._file}: {key[0].upper()}{key[1:]} must be a positive integer value.",
                advice=f"It is {text!r} now. Correct it, or leave it out to get the default.",
            )
        return value

    def texts(self, path: str) -> list[str] | None:
        """The elements of an array of texts, in order; None if it is not given."""
        prefix = path.lower() + ":"
        found = {key[len(prefix) :]: value for key, value in self._values.items() if key.startswith(prefix)}
        indexed = sorted((int(index), str(value)) for index, value in found.items() if index.isdigit())
        return [value for _, value in indexed] or None

    def _flatten(self, prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in cast("dict[str, Any]", value).items():
                self._flatten(f"{prefix}:{key}" if prefix else key, inner)
        elif isinstance(value, list):
            for index, inner in enumerate(cast("list[Any]", value)):
                self._flatten(f"{prefix}:{index}", inner)
        elif value is not None:
            self._values[prefix.lower()] = value


def read_host_json(app_root: Path, environment: Mapping[str, str]) -> Configuration:
    """The app's host.json; the defaults if there is none. Raises SettingsProblem."""
    file = app_root / "host.json"
    try:
        content = read_json_object(file)
    except FileNotFoundError:
        return Configuration({}, environment, file)
    except OSError as error:
        raise SettingsProblem(f"{file}: {error.strerror or error}", advice="Make the file readable.") from error
    except ValueError as error:
        raise _unreadable(file, error) from error
    version = next((value for key, value in content.items() if key.lower() == "version"), None)
    if version != "2.0":
        wrong = "has no 'version'" if version is None else f"has the version {json.dumps(version)}"
        raise SettingsProblem(
            f'host.json {wrong}; it must be the text "2.0".',
            location=Location(str(file), 1),
            advice='Add "version": "2.0" at the top level.',
        )
    return Configuration(content, environment, file)


def _unreadable(file: Path, error: ValueError) -> SettingsProblem:
    line, text = 1, str(error)
    advice = 'It must be a JSON object in UTF-8: { "version": "2.0" } will do.'
    if isinstance(error, json.JSONDecodeError):
        line, text = error.lineno, error.msg
        advice = "Correct the file. Comments, and a comma after a last element, are allowed."
    return SettingsProblem(f"{file.name} cannot be read: {text}.", location=Location(str(file), line), advice=advice)
