"""The app whose instances are in the saved stores.

What a saved store has begun must be finished by the code that is here: an orchestrator may be added, but none that is
in a saved store may be changed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import azure.durable_functions as df
from azure.durable_functions.registry import Registry, build_registry

Orchestration = Generator[Any, Any, Any]

_HOUR_MILLISECONDS = 3_600_000


def large_text(seed: int) -> str:
    """40,000 characters that cannot be packed to much less."""
    digests = (hashlib.sha256(f"{seed} {n}".encode()).digest() for n in range(1000))
    return b"".join(map(base64.b85encode, digests)).decode()


def build_app(*, when_saved: bool) -> Registry:
    """While it is saved `unsteady` always fails, and `forgotten` is not served."""
    app = df.DFApp()

    @app.activity_trigger(input_name="n")
    def square(n: int) -> int:
        return n * n

    @app.activity_trigger(input_name="value")
    def unsteady(value: str) -> str:
        if when_saved:
            raise ConnectionError(f"cannot reach {value}")
        return f"reached {value}"

    @app.orchestration_trigger(context_name="context")
    def fan_out(context: df.DurableOrchestrationContext) -> Orchestration:
        return sum((yield context.task_all([context.call_activity("square", n) for n in range(context.get_input())])))

    @app.orchestration_trigger(context_name="context")
    def retrying(context: df.DurableOrchestrationContext) -> Orchestration:
        retry = df.RetryOptions(_HOUR_MILLISECONDS, 3)
        return (yield context.call_activity_with_retry("unsteady", retry, context.get_input()))

    @app.orchestration_trigger(context_name="context")
    def month(context: df.DurableOrchestrationContext) -> Orchestration:
        begun = context.current_utc_datetime
        yield context.create_timer(begun + timedelta(days=30))
        return context.current_utc_datetime - begun >= timedelta(days=30)

    @app.orchestration_trigger(context_name="context")
    def parent(context: df.DurableOrchestrationContext) -> Orchestration:
        sleeper = context.call_sub_orchestrator("sleeper")
        waiter = context.call_sub_orchestrator("waiter", instance_id=context.get_input())
        return (yield context.task_all([sleeper, waiter]))

    @app.orchestration_trigger(context_name="context")
    def sleeper(context: df.DurableOrchestrationContext) -> Orchestration:
        yield context.create_timer(timedelta(days=10))
        return "slept"

    @app.orchestration_trigger(context_name="context")
    def waiter(context: df.DurableOrchestrationContext) -> Orchestration:
        return (yield context.wait_for_external_event("Go"))

    @app.orchestration_trigger(context_name="context")
    def two_events(context: df.DurableOrchestrationContext) -> Orchestration:
        context.set_custom_status({"waits for": "Second"})
        second = yield context.wait_for_external_event("Second")
        first = yield context.wait_for_external_event("First")
        return [first, second]

    @app.orchestration_trigger(context_name="context")
    def eternal(context: df.DurableOrchestrationContext) -> Orchestration:
        ticks = context.get_input()
        ticks.append((yield context.wait_for_external_event("Tick")))
        if len(ticks) == 3:
            return [*ticks, (yield context.wait_for_external_event("Kept"))]
        context.continue_as_new(ticks)
        return None

    @app.orchestration_trigger(context_name="context")
    def renewed(context: df.DurableOrchestrationContext) -> Orchestration:
        if context.get_input() == "again":
            return (yield context.wait_for_external_event("Kept"))
        yield context.wait_for_external_event("Again")
        context.continue_as_new("again")
        return None

    @app.orchestration_trigger(context_name="context")
    def held(context: df.DurableOrchestrationContext) -> Orchestration:
        child = yield context.call_sub_orchestrator("waiter", instance_id=context.get_input())
        numbers = []
        for _ in range(2):
            numbers.append((yield context.wait_for_external_event("Number")))
        yield context.create_timer(timedelta(hours=1))
        return [child, *numbers]

    @app.activity_trigger(input_name="seed")
    def large(seed: int) -> str:
        return large_text(seed)

    @app.orchestration_trigger(context_name="context")
    def hoarder(context: df.DurableOrchestrationContext) -> Orchestration:
        given = context.get_input()
        made = yield context.call_activity("large", 2)
        word = yield context.wait_for_external_event("Go")
        return [given == 50_000 * "packs well ", made == large_text(2), word]

    @app.orchestration_trigger(context_name="context")
    def greet(context: df.DurableOrchestrationContext) -> str:
        return f"hello {context.get_input()}"

    @app.orchestration_trigger(context_name="context")
    def doomed(context: df.DurableOrchestrationContext) -> Orchestration:
        yield context.call_activity("square", "not a number")

    if not when_saved:

        @app.orchestration_trigger(context_name="context")
        def forgotten(context: df.DurableOrchestrationContext) -> str:
            return "remembered"

    return build_registry(app.get_functions())
