from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.bench.stores import BenchStore, named_store


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BenchStore:
    """A place for a store, where there is none yet."""
    return named_store(f"sqlite:///{(tmp_path / 'hub.db').as_posix()}" if request.param == "sqlite" else "memory://")


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For tests that serve the benchmarks' app in this process, which becomes the app's: it is put back afterwards."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("WEBSITE_HOSTNAME", "AZURE_FUNCTIONS_ENVIRONMENT"):
        monkeypatch.setenv(name, "for the test")
    yield
    sys.modules.pop("function_app", None)
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)
