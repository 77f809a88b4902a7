"""Durable Functions for Python, served by Perdure.

The programming model of Durable Functions 1.x: orchestrators are generator functions that yield tasks.
"""

from typing import TYPE_CHECKING

from azure.durable_functions import absent
from azure.durable_functions.app import (
    Blueprint,
    DFApp,
    activity_trigger,
    durable_client_input,
    orchestration_trigger,
)
from azure.durable_functions.client import DurableClientError, DurableOrchestrationClient
from azure.durable_functions.context import DurableOrchestrationContext
from azure.durable_functions.failures import TaskFailedError
from azure.durable_functions.retry import RetryOptions
from azure.durable_functions.status import (
    DurableOrchestrationStatus,
    OrchestrationRuntimeStatus,
    PurgeHistoryResult,
)

__all__ = [
    "Blueprint",
    "DFApp",
    "DurableClientError",
    "DurableOrchestrationClient",
    "DurableOrchestrationContext",
    "DurableOrchestrationStatus",
    "OrchestrationRuntimeStatus",
    "PurgeHistoryResult",
    "RetryOptions",
    "TaskFailedError",
    "activity_trigger",
    "durable_client_input",
    "orchestration_trigger",
]

# Type checkers are not shown it: to them every name would be there.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        raise absent.attribute_error(f"module {__name__!r}", name, absent.PACKAGE)
