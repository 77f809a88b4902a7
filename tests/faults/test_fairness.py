"""Nobody holds up everybody: wide fan-outs, generations without end, floods of events, a disk that stalls."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from virtual_hub import SETTINGS, VirtualHub, raising, serve, starting

from perdure.engine import Engine


def single(context: Any) -> Any:
    return (yield context.call_activity("note", "single"))


def test_a_fan_out_of_ten_thousand_does_not_hold_up_the_single_activity_of_another() -> None:
    runs: list[Any] = []

    def fan(context: Any) -> Any:
        results = yield context.task_all([context.call_activity("note", n) for n in range(10_000)])
        return len(results)

    def note(value: Any) -> Any:
        runs.append(value)
        return value

    with VirtualHub(serve({"fan": fan, "single": single}, {"note": note})) as hub:
        hub.start("fan", "fan")
        assert hub.run(lambda: len(runs) > 1000)
        before = len(runs)
        hub.start("single", "single")
        hub.run_to_end("single")
        assert runs.index("single") - before < 1000
        assert len(runs) < 2000
        hub.run_to_end("fan")
        assert hub.output("fan") == 10_000
        assert len(runs) == 10_001


def test_generations_without_end_let_others_through_and_can_be_terminated() -> None:
    def spins(context: Any) -> Any:
        context.continue_as_new(context.get_input() + 1)

    with VirtualHub(serve({"spins": spins, "single": single}, {"note": lambda value: value})) as hub:
        hub.start("spins", "spins", 0)
        for n in range(5):
            hub.start("single", f"single-{n}")
        hub.run_to_end(*(f"single-{n}" for n in range(5)), seconds=1)
        generations = hub.row("spins").generation
        assert generations > 5
        assert hub.terminate("spins") is None
        assert hub.row("spins").status == "Terminated"
        hub.rest()
        assert not any(hub.database.hubs["hub"].history.get(e) for e in hub.database.hubs["hub"].garbage)


def test_while_the_disk_stalls_what_waits_for_it_stays_within_bounds() -> None:
    """Turns that need no commit to go on would otherwise be gathered without end."""

    def spins(context: Any) -> Any:
        context.continue_as_new(context.get_input() + 1)

    settings = replace(SETTINGS, turns_in_batch=100, turns_in_chunk=16)
    with VirtualHub(serve({"spins": spins}), settings=settings) as hub:
        hub.start("spins", "spins", 0)
        writer: Any = hub.engine.commits._writer
        submit, machine = writer.submit, hub.world.machine
        writer.submit = lambda call, done: machine.at(10_000_000, submit, call, done)
        hub.rest(5)
        steps = machine.steps
        hub.rest(5)
        assert hub.engine.lane.batch.turns <= 100
        assert machine.steps - steps < 1000, "nobody turns while there is no room"


def test_a_flood_of_events_for_one_instance_is_taken_in_portions() -> None:
    def collects(context: Any) -> Any:
        total = 0
        for _ in range(3000):
            total += yield context.wait_for_external_event("go")
        return total

    settings = replace(SETTINGS, mails_in_turn=100)
    app = serve({"collects": collects, "single": single}, {"note": lambda value: value})
    with VirtualHub(app, settings=settings) as hub:
        hub.start("collects", "it")
        answers: list[Any] = []

        def flood(engine: Engine) -> None:
            for n in range(3000):
                raising("it", "go", n)(engine, answers.append)
            starting("single", "single")(engine, answers.append)

        hub.engine.runtime.post(flood, hub.engine)
        hub.run_to_end("it", "single")
        assert hub.output("it") == sum(range(3000))
        widest = max(len(record.received) for record in hub.history("it"))
        assert widest == 100
