"""Which Python packages and files there are to count."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import TypedDict

_NOT_PACKAGES = {"__pycache__", "site-packages", "dist-packages"}


class Package(TypedDict):
    """One directory that holds Python files, without what lies in directories below it."""

    name: str
    """Unique among the packages of a run, and fit for an instance id."""
    directory: str
    files: int


def default_roots() -> dict[str, str]:
    """Label to directory: the standard library of the running Python, and what is installed beside it."""
    paths = sysconfig.get_paths()
    return {"stdlib": paths["stdlib"], "site": paths["purelib"]}


def find(roots: dict[str, str]) -> list[Package]:
    """Every package below the roots, in an order that does not depend on the file system."""
    packages: list[Package] = []
    for label, root in roots.items():
        for directory, below, _ in os.walk(root):
            below[:] = sorted(name for name in below if name not in _NOT_PACKAGES)
            files = len(python_files(directory))
            if files:
                name = ".".join((label, *Path(directory).relative_to(root).parts))
                packages.append(Package(name=name, directory=directory, files=files))
    return packages


def python_files(directory: str) -> list[str]:
    """Whatever calls itself a Python file, by its path."""
    return sorted(str(path) for path in Path(directory).glob("*.py"))
