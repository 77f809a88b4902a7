from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from orchestration_driver import Driven


@pytest.fixture(params=["live", "replayed"])
def drive(request: pytest.FixtureRequest) -> Callable[..., Driven]:
    """Starts an orchestrator. Every rule must hold on a session that lives on and on one that replays each turn."""
    return partial(Driven, evict=request.param == "replayed")
