"""The triggers and the binding of Durable Functions, as azure.functions describes them."""

from __future__ import annotations

from typing import Any

from azure.functions.decorators.core import InputBinding, Trigger
from azure.functions.decorators.function_app import Function

ORCHESTRATION_TRIGGER = "orchestrationTrigger"
ACTIVITY_TRIGGER = "activityTrigger"
DURABLE_CLIENT = "durableClient"


class OrchestrationTrigger(Trigger):
    @staticmethod
    def get_binding_name() -> str:
        return ORCHESTRATION_TRIGGER

    def __init__(self, name: str, orchestration: str | None = None) -> None:
        self.orchestration = orchestration
        super().__init__(name=name)


class ActivityTrigger(Trigger):
    @staticmethod
    def get_binding_name() -> str:
        return ACTIVITY_TRIGGER

    def __init__(self, name: str, activity: str | None = None) -> None:
        self.activity = activity
        super().__init__(name=name)


class DurableClient(InputBinding):
    @staticmethod
    def get_binding_name() -> str:
        return DURABLE_CLIENT

    def __init__(self, name: str, task_hub: str | None = None, connection_name: str | None = None) -> None:
        self.task_hub = task_hub
        self.connection_name = connection_name
        super().__init__(name=name)


def served_name(function: Function) -> str:
    """The name under which an orchestrator or activity is called: the trigger's, else the function's."""
    trigger: Any = function.get_trigger()
    given = getattr(trigger, "orchestration", None) or getattr(trigger, "activity", None)
    return given or function.get_function_name() or ""
