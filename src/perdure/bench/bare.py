"""The functions of the benchmarks' app called directly: what their Python costs when nothing is durable."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from perdure.host.indexing import AppFunctions

Functions = dict[str, Callable[..., Any]]
"""Orchestrators and activities as the user wrote them, by the names under which they are called."""


Call = tuple[Callable[..., Any], Any]
"""An activity and its input: what a task is here."""


class BareContext:
    """As much of an orchestration context as the benchmarks use."""

    def __init__(self, functions: Functions, input: Any) -> None:
        self._functions = functions
        self._input = input

    def get_input(self) -> Any:
        return self._input

    def call_activity(self, name: str, input_: Any = None) -> Call:
        return self._functions[name], input_

    def task_all(self, tasks: list[Call]) -> list[Call]:
        return tasks


def bare_functions(functions: AppFunctions) -> Functions:
    return {durable.called: inspect.unwrap(durable.function.get_user_function()) for durable in functions.durable}


def drive(functions: Functions, orchestrator: str, input: Any) -> Any:
    """Run an orchestrator to its end, calling each activity when it is asked for. What it returns."""
    generator = functions[orchestrator](BareContext(functions, input))
    try:
        asked: Call | list[Call] = next(generator)
        while True:
            if isinstance(asked, list):
                asked = generator.send([function(value) for function, value in asked])
            else:
                function, value = asked
                asked = generator.send(function(value))
    except StopIteration as end:
        return end.value
