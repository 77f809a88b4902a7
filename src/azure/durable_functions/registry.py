"""The orchestrators and activities of an app, as the engine needs them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from azure.durable_functions import triggers
from azure.durable_functions.failures import activity_failure
from azure.durable_functions.replay import OrchestrationSession
from azure.durable_functions.serialization import df_dumps, df_loads, strict_typing
from azure.functions.decorators.function_app import Function

from perdure.core.protocols import ActivityResult

Arguments = Callable[[], Mapping[str, Any]]
"""Makes the arguments of one call besides the activity's input: a client, an invocation context."""


class Registry:
    """What an app serves. Names are compared without regard to case."""

    def __init__(self, orchestrators: OrchestratorTable, activities: ActivityTable) -> None:
        self.orchestrators = orchestrators
        self.activities = activities


class OrchestratorTable:
    """A `perdure.core.protocols.Orchestrators`."""

    def __init__(self) -> None:
        self._by_name: dict[str, tuple[str, Callable[..., Any], type | None]] = {}

    def add(self, name: str, function: Callable[..., Any], input_type: type | None = None) -> None:
        """Raises ValueError if the name is taken."""
        if name.lower() in self._by_name:
            raise ValueError(f"Two orchestrator functions are named '{name}'; names are compared without case.")
        self._by_name[name.lower()] = (name, function, input_type)

    def names(self) -> Iterable[str]:
        return [name for name, _, _ in self._by_name.values()]

    def knows(self, name: str) -> bool:
        return name.lower() in self._by_name

    def open(self, name: str, instance_id: str) -> OrchestrationSession:
        declared, function, input_type = self._by_name[name.lower()]
        return OrchestrationSession(declared, function, instance_id, input_type)


class ActivityTable:
    """A `perdure.core.protocols.Activities`."""

    def __init__(self) -> None:
        self._by_name: dict[str, ActivityFunction] = {}

    def add(self, activity: ActivityFunction) -> None:
        """Raises ValueError if the name is taken."""
        if activity.name.lower() in self._by_name:
            raise ValueError(f"Two activity functions are named '{activity.name}'; names are compared without case.")
        self._by_name[activity.name.lower()] = activity

    def names(self) -> Iterable[str]:
        return [activity.name for activity in self._by_name.values()]

    def find(self, name: str) -> ActivityFunction | None:
        return self._by_name.get(name.lower())


class ActivityFunction:
    """A `perdure.core.protocols.Activity` over a user's function."""

    __slots__ = ("_arguments", "_function", "_input_name", "_input_type", "is_async", "name")

    def __init__(
        self, name: str, function: Callable[..., Any], input_name: str, arguments: Arguments | None = None
    ) -> None:
        self.name = name
        self.is_async = inspect.iscoroutinefunction(function)
        self._function = function
        self._input_name = input_name
        # Only strict typing looks at it, which an app sets before its functions are loaded.
        self._input_type = _parameter_type(function, input_name) if strict_typing() else None
        self._arguments = arguments

    def invoke(
        self, input: str | None, instance_id: str, task_id: int, attempt: int
    ) -> ActivityResult | Awaitable[ActivityResult]:
        if self.is_async:
            return self._invoke_async(input, attempt)
        try:
            return self._encode(self._function(**self._keywords(input)))
        except BaseException as error:
            return activity_failure(error, self.name, attempt)

    async def _invoke_async(self, input: str | None, attempt: int) -> ActivityResult:
        # A cancellation is reported like any other failure: who cancelled knows, and does not look at the result.
        try:
            return self._encode(await self._function(**self._keywords(input)))
        except BaseException as error:
            return activity_failure(error, self.name, attempt)

    def _keywords(self, input: str | None) -> dict[str, Any]:
        keywords: dict[str, Any] = dict(self._arguments()) if self._arguments is not None else {}
        keywords[self._input_name] = self._decode(input)
        return keywords

    def _encode(self, output: object) -> str:
        try:
            return df_dumps(output)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"The return value of activity '{self.name}' cannot be stored: {error}") from None

    def _decode(self, input: str | None) -> Any:
        if input is None:
            return None
        try:
            return df_loads(input, self._input_type)
        except json.JSONDecodeError:
            return input  # Text that is not JSON is passed on as it is, as Durable Functions does.


def build_registry(
    functions: Iterable[Function], arguments: Callable[[Function], Arguments | None] | None = None
) -> Registry:
    """The orchestrators and activities among an app's `get_functions()`; other functions are left out.

    `arguments` is asked once for each activity what it takes besides its input. Raises ValueError if a name occurs
    twice.
    """
    orchestrators = OrchestratorTable()
    activities = ActivityTable()
    for function in functions:
        trigger = function.get_trigger()
        code = function.get_user_function()
        match trigger.type if trigger is not None else None:
            case triggers.ORCHESTRATION_TRIGGER:
                orchestrators.add(
                    triggers.served_name(function),
                    getattr(code, "orchestrator_function", code),
                    getattr(code, "input_type", None),
                )
            case triggers.ACTIVITY_TRIGGER:
                assert trigger is not None
                extra = arguments(function) if arguments is not None else None
                activities.add(ActivityFunction(triggers.served_name(function), code, trigger.name, extra))
            case _:
                pass
    return Registry(orchestrators, activities)


def _parameter_type(function: Callable[..., Any], name: str) -> object:
    """The annotation of a parameter, None if it has none or it cannot be evaluated."""
    try:
        return inspect.get_annotations(inspect.unwrap(function), eval_str=True).get(name)
    except Exception:
        return None
