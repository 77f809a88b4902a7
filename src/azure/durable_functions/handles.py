"""What a decorator puts in the place of the user's function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from azure.durable_functions.client import DurableOrchestrationClient
from azure.durable_functions.replay import NOT_ASYNC
from azure.durable_functions.triggers import DurableClient
from azure.functions.decorators.function_app import Function, FunctionBuilder

UserFunction = Callable[..., Any]

# Where a function keeps the durable clients that it takes, by parameter.
_CLIENTS = "durable_client_inputs"


def orchestrator_handle(function: UserFunction, input_type: type | None = None) -> UserFunction:
    """What stands for an orchestrator; the user's own function is its `orchestrator_function`.

    Raises TypeError for a coroutine function.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        name = getattr(function, "__name__", repr(function))
        raise TypeError(f"Orchestrator function '{name}' is declared with `async def`. {NOT_ASYNC}")

    @functools.wraps(function)
    def handle(context: object) -> object:
        return function(context)

    _mark(handle, orchestrator_function=function, input_type=input_type)
    return handle


def client_handle(function: UserFunction, binding: DurableClient) -> UserFunction:
    """`function`, given a client where it is handed one or the JSON text of a client binding.

    Async if `function` is. The user's own function is its `client_function`.
    """
    name: str = binding.name

    def connect(arguments: dict[str, Any]) -> None:
        value = arguments.get(name)
        if isinstance(value, str):
            invocation_id = getattr(arguments.get("context"), "invocation_id", None)
            arguments[name] = DurableOrchestrationClient(value, invocation_id)

    @functools.wraps(function)
    async def asynchronous(*args: Any, **kwargs: Any) -> Any:
        connect(kwargs)
        return await function(*args, **kwargs)

    @functools.wraps(function)
    def synchronous(*args: Any, **kwargs: Any) -> Any:
        connect(kwargs)
        return function(*args, **kwargs)

    handle = asynchronous if inspect.iscoroutinefunction(function) else synchronous
    _mark(
        handle,
        client_function=getattr(function, "client_function", function),
        __annotations__={**_annotations(function), name: str},
        **{_CLIENTS: {**getattr(function, _CLIENTS, {}), name: binding}},
    )
    return handle


def client_inputs(function: Function) -> dict[str, DurableClient]:
    """The durable clients that a function takes, by parameter, wherever they were declared."""
    return dict(getattr(function.get_user_function(), _CLIENTS, {}))


def add_client(builder: FunctionBuilder, binding: DurableClient) -> FunctionBuilder:
    """Let the function of `builder` take a client."""
    function: Any = builder._function
    function._func = client_handle(function._func, binding)
    return builder.add_binding(binding)


def _mark(handle: object, **attributes: object) -> None:
    for name, value in attributes.items():
        setattr(handle, name, value)


def _annotations(function: UserFunction) -> dict[str, Any]:
    """Annotations as they stand. From Python 3.14 on they are evaluated here, and may not be evaluable."""
    try:
        return dict(inspect.get_annotations(function))
    except Exception:
        return {}
