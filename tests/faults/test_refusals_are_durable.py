"""A refusal says something about an instance, so it is told when that is durable, as an answer is."""

from __future__ import annotations

from typing import Any

import pytest
from virtual_hub import SILENT, VirtualHub, raising, serve, starting

from perdure.core.errors import InstanceEnded, InstanceExists
from perdure.core.state import ENDED


def wait(context: Any) -> Any:
    return (yield context.wait_for_external_event("Go"))


@pytest.mark.parametrize("seed", range(20))
def test_that_an_id_is_taken_is_told_when_its_instance_is_durable(seed: int) -> None:
    with VirtualHub(serve({"wait": wait}), seed=seed) as hub:
        answers = [hub.send(starting("wait", "one")), hub.send(starting("wait", "one"))]

        def refused() -> bool:
            return any(isinstance(answer[0], InstanceExists) for answer in answers if answer)

        assert hub.run(refused)
        assert hub.find("one") is not None


@pytest.mark.parametrize("seed", range(20))
def test_that_an_instance_has_ended_is_told_when_its_end_is_durable(seed: int) -> None:
    with VirtualHub(serve({"wait": wait}), seed=seed) as hub:
        assert hub.start("wait", "one") is not SILENT
        answers: list[list[Any]] = []

        def refused() -> bool:
            answers.append(hub.send(raising("one", "Go")))
            return any(isinstance(answer[0], InstanceEnded) for answer in answers if answer)

        assert hub.run(refused)
        assert hub.row("one").status in ENDED


@pytest.mark.parametrize("seed", range(20))
def test_an_instance_whose_last_turn_is_under_way_is_not_begun_anew_before_it_has_ended(seed: int) -> None:
    with VirtualHub(serve({"wait": wait}), seed=seed) as hub:
        hub.start("wait", "one")
        hub.send(raising("one", "Go", "the first"))
        answers: list[list[Any]] = []

        def begun_anew() -> bool:
            answers.append(hub.send(starting("wait", "one")))
            return any(answer[0] == "one" for answer in answers if answer)

        assert hub.run(begun_anew)
        assert hub.row("one").status not in ENDED
        refusals = {type(answer[0]) for answer in answers if answer and answer[0] != "one"}
        assert refusals <= {InstanceExists}
