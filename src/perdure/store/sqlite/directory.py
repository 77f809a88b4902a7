"""The directory that holds a store."""

from __future__ import annotations

from pathlib import Path


def make_private(directory: Path) -> None:
    """Make `directory` and what is missing above it, each for its owner alone. One that exists is left as it is."""
    missing = [directory, *directory.parents]
    for path in reversed(missing):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
