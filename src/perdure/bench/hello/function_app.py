"""The app of `perdure bench hello`: three activities, one after the other."""

from collections.abc import Generator
from typing import Any

import azure.durable_functions as df

app = df.DFApp()


@app.orchestration_trigger(context_name="context")
def hello(context: df.DurableOrchestrationContext) -> Generator[Any, Any, list[str]]:
    tokyo: str = yield context.call_activity("say_hello", "Tokyo")
    seattle: str = yield context.call_activity("say_hello", "Seattle")
    london: str = yield context.call_activity("say_hello", "London")
    return [tokyo, seattle, london]


@app.activity_trigger(input_name="city")
def say_hello(city: str) -> str:
    return f"Hello {city}!"
