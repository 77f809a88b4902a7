"""The app that `perdure bench` runs: as anyone would write it, with activities that do next to nothing."""

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import azure.durable_functions as df

app = df.DFApp()


@app.orchestration_trigger(context_name="context")
def hello(context: df.DurableOrchestrationContext) -> Generator[Any, Any, list[str]]:
    tokyo: str = yield context.call_activity("say_hello", "Tokyo")
    seattle: str = yield context.call_activity("say_hello", "Seattle")
    london: str = yield context.call_activity("say_hello", "London")
    return [tokyo, seattle, london]


@app.orchestration_trigger(context_name="context")
def fanout(context: df.DurableOrchestrationContext) -> Generator[Any, Any, int]:
    width: int = context.get_input()
    numbers: list[int] = yield context.task_all([context.call_activity("double", n) for n in range(width)])
    return sum(numbers)


@app.orchestration_trigger(context_name="context")
def chain(context: df.DurableOrchestrationContext) -> Generator[Any, Any, int]:
    length: int = context.get_input()
    number = 0
    for _ in range(length):
        number = yield context.call_activity("increment", number)
    return number


@app.orchestration_trigger(context_name="context")
def wait_for_go(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    return (yield context.wait_for_external_event("go"))


@app.orchestration_trigger(context_name="context")
def wait_a_month(context: df.DurableOrchestrationContext) -> Generator[Any, Any, None]:
    yield context.create_timer(context.current_utc_datetime + timedelta(days=30))


@app.orchestration_trigger(context_name="context")
def chain_then_wait(context: df.DurableOrchestrationContext) -> Generator[Any, Any, int]:
    length: int = context.get_input()
    number = 0
    for _ in range(length):
        number = yield context.call_activity("increment", number)
    context.set_custom_status("waiting")
    yield context.wait_for_external_event("go")
    return number


@app.activity_trigger(input_name="city")
def say_hello(city: str) -> str:
    return f"Hello {city}!"


@app.activity_trigger(input_name="number")
def double(number: int) -> int:
    return 2 * number


@app.activity_trigger(input_name="number")
def increment(number: int) -> int:
    return number + 1
