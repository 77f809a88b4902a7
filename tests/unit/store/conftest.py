"""What belongs to one store alone; what holds for all of them is in tests/conformance, with the rows used here too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "conformance"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a store that does not exist, in a directory that does not exist."""
    return tmp_path / "store" / "hub.db"
