"""A client that waits with a limit leaves nothing behind in the host when it goes."""

from __future__ import annotations

import asyncio
from typing import Any

from thread_hub import ThreadHub
from virtual_hub import serve

from perdure.core.protocols import StartRequest
from perdure.engine import EngineSettings
from perdure.host.hub import LocalHub

COUNT = 60


def waits(context: Any) -> Any:
    return (yield context.wait_for_external_event("go"))


def test_a_wait_that_is_over_while_its_instance_is_being_read_is_forgotten() -> None:
    with ThreadHub(serve({"waits": waits}), settings=EngineSettings(instances_in_memory=2)) as hub:
        local = LocalHub("hub", hub.runtime, hub.store, hub.engine)

        async def wait_and_go() -> None:
            for number in range(COUNT):
                await local.start(StartRequest("waits", f"it-{number}"))
            for number in range(COUNT):
                assert (await local.wait(f"it-{number}", 0.0)).status in ("Pending", "Running")
            for number in range(COUNT):  # each of these is behind whatever is still being read
                await local.raise_event(f"it-{number}", "other", None)

        asyncio.run(wait_and_go())
        assert hub.engine.doors.open_count == 0
        assert not hub.engine.doors.waiting_count
