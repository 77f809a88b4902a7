"""`func.Context`: what a function may ask about the call that it is in."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from typing import Any

import azure.functions as func
from azure.functions._abc import RetryContext, RpcException, TraceContext


class InvocationTrace(TraceContext):
    """The W3C trace headers of the request; empty texts where it had none."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._parent = headers.get("traceparent", "")
        self._state = headers.get("tracestate", "")

    @property
    def trace_state(self) -> str:
        return self._state

    @property
    def trace_parent(self) -> str:
        return self._parent

    @property
    def attributes(self) -> dict[str, str]:
        return {}


class FirstAttempt(RetryContext):
    """The host calls an HTTP function once."""

    @property
    def retry_count(self) -> int:
        return 0

    @property
    def max_retry_count(self) -> int:
        return 0

    @property
    def exception(self) -> RpcException:
        raise AttributeError("this is the first attempt: no exception came before it")


class InvocationContext(func.Context):
    def __init__(self, function_name: str, app_root: str, headers: Mapping[str, str]) -> None:
        self._invocation_id = str(uuid.uuid4())
        self._function_name = function_name
        self._function_directory = app_root
        self._trace = InvocationTrace(headers)
        self._retry = FirstAttempt()
        self._local: Any = threading.local()

    @property
    def invocation_id(self) -> str:
        return self._invocation_id

    @property
    def thread_local_storage(self) -> Any:
        return self._local

    @property
    def function_name(self) -> str:
        return self._function_name

    @property
    def function_directory(self) -> str:
        return self._function_directory

    @property
    def trace_context(self) -> TraceContext:
        return self._trace

    @property
    def retry_context(self) -> RetryContext:
        return self._retry
