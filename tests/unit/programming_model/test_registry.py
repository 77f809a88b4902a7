"""What an app serves, and how its activities are run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest
from azure.durable_functions.registry import ActivityFunction, build_registry

from perdure.core.events import ExecutionStarted, Failure, TaskScheduled


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def to_json(self) -> int:
        return self.cents

    @classmethod
    def from_json(cls, cents: int) -> Money:
        return cls(cents)


def activity(function: Any, input_name: str = "value") -> ActivityFunction:
    return ActivityFunction("flaky", function, input_name)


def test_orchestrators_and_activities_are_found_by_the_names_they_are_called_by() -> None:
    app = df.DFApp()

    @app.orchestration_trigger(context_name="context", orchestration="Renamed")
    def first(context: Any) -> Any: ...

    @app.function_name("Named")
    @app.orchestration_trigger(context_name="context")
    def second(context: Any) -> Any: ...

    @app.activity_trigger(input_name="value", activity="Work")
    def third(value: Any) -> Any: ...

    @app.route(route="x")
    def other(req: func.HttpRequest) -> func.HttpResponse: ...

    registry = build_registry(app.get_functions())

    assert list(registry.orchestrators.names()) == ["Renamed", "Named"]
    assert list(registry.activities.names()) == ["Work"]
    assert registry.orchestrators.knows("renamed")
    assert not registry.orchestrators.knows("first")
    found = registry.activities.find("WORK")
    assert found is not None
    assert found.name == "Work"
    assert registry.activities.find("third") is None
    with pytest.raises(KeyError):
        registry.orchestrators.open("third", "abc123")


def test_a_session_is_opened_whatever_the_case_of_the_name() -> None:
    app = df.DFApp()

    @app.orchestration_trigger(context_name="context", input_type=Money)
    def pay(context: Any) -> Any:
        yield context.call_activity("a", context.get_input())

    session = build_registry(app.get_functions()).orchestrators.open("PAY", "abc123")

    step = session.advance(0, [ExecutionStarted("PAY", "abc123", "e" * 32, "5")])
    assert step.decided == [TaskScheduled(0, "a", "5")]


def test_the_decorators_input_type_is_expected_in_strict_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_FUNCTIONS_DURABLE_STRICT_TYPING", "1")
    app = df.DFApp()

    @app.orchestration_trigger(context_name="context", input_type=Money)
    def pay(context: Any) -> Any:
        return context.get_input().cents

    envelope = json.dumps({"__class__": "Money", "__module__": __name__, "__data__": 5})
    session = build_registry(app.get_functions()).orchestrators.open("pay", "abc123")

    (end,) = session.advance(0, [ExecutionStarted("pay", "abc123", "e" * 32, envelope)]).decided
    assert getattr(end, "result", None) == "5"


@pytest.mark.parametrize("kind", ["activity", "orchestrator"])
def test_two_functions_of_one_name_are_refused(kind: str) -> None:
    app = df.DFApp()
    if kind == "activity":
        app.activity_trigger(input_name="value", activity="Same")(lambda value: 1)
        app.activity_trigger(input_name="value", activity="SAME")(test_two_functions_of_one_name_are_refused)
    else:
        app.orchestration_trigger(context_name="value", orchestration="Same")(lambda value: 1)
        app.orchestration_trigger(context_name="value", orchestration="SAME")(
            test_two_functions_of_one_name_are_refused
        )

    with pytest.raises(ValueError, match=f"Two {kind} functions are named 'SAME'"):
        build_registry(app.get_functions())


@pytest.mark.parametrize(
    ("input", "seen"),
    [('"Tokyo"', "Tokyo"), (None, None), ("null", None), ('{"a": [1]}', {"a": [1]}), ("no json", "no json")],
)
def test_an_activity_gets_its_input_decoded(input: str | None, seen: Any) -> None:
    got: list[Any] = []

    assert activity(lambda value: got.append(value)).invoke(input, "abc123", 0, 1) == "null"
    assert got == [seen]


def test_objects_go_in_and_come_out() -> None:
    def double(value: Money) -> Money:
        return Money(value.cents * 2)

    envelope = {"__class__": "Money", "__module__": __name__, "__data__": 5}
    result = activity(double).invoke(json.dumps(envelope), "abc123", 0, 1)

    assert json.loads(str(result)) == {**envelope, "__data__": 10}


def test_an_async_activity_is_awaited() -> None:
    async def greet(value: str) -> str:
        await asyncio.sleep(0)
        return f"Hello {value}!"

    work = activity(greet)
    pending: Any = work.invoke('"Tokyo"', "abc123", 0, 1)

    assert work.is_async
    assert asyncio.run(pending) == '"Hello Tokyo!"'


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3), KeyboardInterrupt("boom")])
@pytest.mark.parametrize("is_async", [False, True])
def test_whatever_an_activity_raises_is_a_failure(error: BaseException, is_async: bool) -> None:
    def fails(value: Any) -> None:
        raise error

    async def fails_later(value: Any) -> None:
        raise error

    result: Any
    if is_async:
        # Driven by hand: an event loop has its own ideas about exits.
        pending: Any = activity(fails_later).invoke("1", "abc123", 0, 2)
        with pytest.raises(StopIteration) as stop:
            pending.send(None)
        result = stop.value.value
    else:
        result = activity(fails).invoke("1", "abc123", 0, 2)

    assert isinstance(result, Failure)
    assert (result.type, result.function, result.attempt) == (type(error).__name__, "flaky", 2)


def test_a_result_that_cannot_be_stored_is_a_failure_that_says_so() -> None:
    failure = activity(lambda value: {1, 2}).invoke("1", "abc123", 0, 1)

    assert isinstance(failure, Failure)
    assert failure.message == (
        "The return value of activity 'flaky' cannot be stored: "
        "class <class 'set'> does not expose a `to_json` function; write sorted(value)"
    )


def test_a_function_that_does_not_take_its_input_is_a_failure() -> None:
    failure = activity(lambda: 1).invoke("1", "abc123", 0, 1)

    assert isinstance(failure, Failure)
    assert failure.type == "TypeError"


def test_an_activity_gets_what_else_it_takes() -> None:
    app = df.DFApp()

    @app.activity_trigger(input_name="value")
    def work(value: int, context: Any) -> list[Any]:
        return [value, context]

    calls = iter(range(10))
    registry = build_registry(app.get_functions(), lambda function: lambda: {"context": next(calls)})
    found = registry.activities.find("work")

    assert found is not None
    assert [found.invoke("7", "abc123", 0, 1) for _ in range(2)] == ["[7, 0]", "[7, 1]"]
