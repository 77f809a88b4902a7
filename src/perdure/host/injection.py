"""What a function takes besides its trigger: durable clients, and the context of the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from azure.durable_functions.handles import client_inputs
from azure.durable_functions.triggers import DURABLE_CLIENT
from azure.functions.decorators.function_app import Function
from msgspec import Struct

from perdure.host.invocation import InvocationContext
from perdure.host.problems import AppProblem, function_location

_CONTEXT = "context"


class Injection(Struct, frozen=True):
    clients: tuple[str, ...]
    """Parameters that take a durable client."""
    context: bool
    """It has the parameter `context`, which no binding is called."""

    @property
    def empty(self) -> bool:
        return not self.clients and not self.context


class Injector:
    """Makes the arguments of a call. `connect` makes a durable client."""

    def __init__(self, connect: Callable[[], Any], app_root: Path) -> None:
        self._connect = connect
        self._app_root = str(app_root)

    def arguments(self, function_name: str, injection: Injection, headers: Mapping[str, str]) -> dict[str, Any]:
        arguments = {parameter: self._connect() for parameter in injection.clients}
        if injection.context:
            arguments[_CONTEXT] = InvocationContext(function_name, self._app_root, headers)
        return arguments


def injection_of(function: Function, trigger_parameter: str) -> Injection:
    """Raises AppProblem if the function's parameters are not those of its bindings."""
    call = function.get_user_function()
    clients = [binding.name for binding in function.get_bindings() if binding.type == DURABLE_CLIENT]
    clients += [name for name in client_inputs(function) if name not in clients]
    bound = {trigger_parameter, *clients}
    parameters = inspect.signature(call).parameters.values()
    names = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    unbound = names - bound - {_CONTEXT}
    missing = set[str]() if takes_any else bound - names
    if unbound or missing:
        wrong = [f"no binding gives the parameter {name!r}" for name in sorted(unbound)]
        wrong += [f"no parameter takes the binding {name!r}" for name in sorted(missing)]
        raise AppProblem(
            f"Function {function.get_function_name()}: {'; '.join(wrong)}.",
            location=function_location(call),
            advice=f"Its parameters must be named like its bindings: {', '.join(sorted(bound))}.",
        )
    return Injection(tuple(clients), _CONTEXT in names - bound)
