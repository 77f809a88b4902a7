"""The app classes and decorators.

A decorator leaves a `FunctionBuilder` of azure.functions behind, in whatever order decorators are stacked. Those at the
package's top level need no app object: they register on a default blueprint, one for each loading of an app, which the
host serves beside the app object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, Union

from azure.durable_functions import absent
from azure.durable_functions.handles import UserFunction, add_client, client_handle, client_inputs, orchestrator_handle
from azure.durable_functions.triggers import ActivityTrigger, DurableClient, OrchestrationTrigger
from azure.functions import AuthLevel
from azure.functions.decorators.function_app import (
    BindingApi,
    FunctionBuilder,
    FunctionRegister,
    SettingsApi,
    TriggerApi,
)

from perdure.core.errors import UserCodeError

Decorated = Union[UserFunction, FunctionBuilder]
Decorator = Callable[[Decorated], FunctionBuilder]
_F = TypeVar("_F", bound=Decorated)


class Blueprint(TriggerApi, BindingApi, SettingsApi):
    """A container of functions, durable and other, to be registered on an app."""

    def __init__(self, http_auth_level: Union[AuthLevel, str] = AuthLevel.FUNCTION) -> None:
        super().__init__(auth_level=http_auth_level)

    def orchestration_trigger(
        self, context_name: str, orchestration: str | None = None, input_type: type | None = None
    ) -> Decorator:
        """Serve a generator function, or one that returns at once, as an orchestrator.

        `context_name` is its parameter, `orchestration` its name if not that of the function. `input_type` is the
        expected type of `context.get_input()`.
        """

        def declare(builder: FunctionBuilder) -> FunctionBuilder:
            function: Any = builder._function
            function._func = orchestrator_handle(function._func, input_type)
            return builder.add_trigger(OrchestrationTrigger(context_name, orchestration))

        return self._configure_function_builder(declare)

    def activity_trigger(self, input_name: str, activity: str | None = None) -> Decorator:
        """Serve a function, plain or `async`, as an activity.

        `input_name` is its parameter, `activity` its name if not that of the function.
        """

        def declare(builder: FunctionBuilder) -> FunctionBuilder:
            return builder.add_trigger(ActivityTrigger(input_name, activity))

        return self._configure_function_builder(declare)

    def entity_trigger(self, context_name: str, entity_name: str | None = None) -> NoReturn:
        """Raises UserCodeError. What azure.functions has under this name would call itself for ever."""
        raise UserCodeError(absent.NO_ENTITIES)

    def durable_client_input(
        self, client_name: str, task_hub: str | None = None, connection_name: str | None = None
    ) -> Decorator:
        """Give a function a DurableOrchestrationClient as its parameter `client_name`."""

        def declare(builder: FunctionBuilder) -> FunctionBuilder:
            return add_client(builder, DurableClient(client_name, task_hub, connection_name))

        return self._configure_function_builder(declare)

    def _configure_function_builder(self, wrap: Callable[[FunctionBuilder], FunctionBuilder]) -> Decorator:
        """As azure.functions has it, but a builder stays with the app or blueprint that made it.

        There, a builder is taken to be the last of this container, which is not so when it comes from another one.
        """

        def decorate(target: Decorated) -> FunctionBuilder:
            if isinstance(target, FunctionBuilder):
                return wrap(target)
            if not callable(target):
                raise ValueError("Unsupported type for function app decorator found.")
            builder = _replaced_builder(target)
            if builder is None:
                builder = FunctionBuilder(target, self._app_script_file)
                for binding in client_inputs(builder._function).values():
                    builder.add_binding(binding)
            self._function_builders.append(builder)
            return wrap(builder)

        return decorate

    # Type checkers are not shown it: to them every name would be there.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            raise absent.attribute_error(f"{type(self).__name__!r} object", name, absent.APP)


class DFApp(Blueprint, FunctionRegister):
    """A function app: the object that a host looks for at the top level of `function_app.py`."""


# --- top level -------------------------------------------------------------------------------------------------------

_default: Blueprint | None = None


def begin_loading() -> None:
    """Forget what the decorators at the top level have registered: an app is about to be loaded (again)."""
    global _default
    _default = None


def default_blueprint() -> Blueprint:
    """What the decorators at the top level have registered since `begin_loading`."""
    global _default
    if _default is None:
        _default = Blueprint()
    return _default


def orchestration_trigger(
    context_name: str, orchestration: str | None = None, input_type: type | None = None
) -> Decorator:
    """`Blueprint.orchestration_trigger` on the default blueprint."""
    return default_blueprint().orchestration_trigger(context_name, orchestration, input_type)


def activity_trigger(input_name: str, activity: str | None = None) -> Decorator:
    """`Blueprint.activity_trigger` on the default blueprint."""
    return default_blueprint().activity_trigger(input_name, activity)


def durable_client_input(
    client_name: str, task_hub: str | None = None, connection_name: str | None = None
) -> Callable[[_F], _F]:
    """Give a function a DurableOrchestrationClient, above or below the trigger that an app or blueprint declares.

    What it returns is a function and not yet a builder: apps of azure.functions lose one of their functions when they
    are given a builder that is not theirs.
    """
    binding = DurableClient(client_name, task_hub, connection_name)

    def decorate(target: _F) -> _F:
        result: Any = (
            add_client(target, binding) if isinstance(target, FunctionBuilder) else client_handle(target, binding)
        )
        return result

    return decorate


def _replaced_builder(function: UserFunction) -> FunctionBuilder | None:
    """The builder that an app of azure.functions is about to replace by ours.

    A `FunctionApp` passes on the bare function and drops the builder, with every trigger and binding that was declared
    below the durable decorator. The builder is a variable of the calling frame; modified in place and given back, it
    keeps them. Where it is not found, the decorator works as it always did.
    """
    frame = sys._getframe(2)
    builder = frame.f_locals.get("fb")
    if isinstance(builder, FunctionBuilder) and builder._function.get_user_function() is function:
        return builder
    return None
