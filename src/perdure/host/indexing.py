"""Sort an app's functions by what the host can do for them.

A function with a trigger or binding that the host does not have is not served: it is listed at start with the reason,
and the others are served all the same. So is one whose binding names an app setting that does not exist. What only its
author can put right (parameters that fit no binding, a route that cannot be read) is an AppProblem.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from azure.durable_functions.handles import client_inputs
from azure.durable_functions.triggers import ACTIVITY_TRIGGER, DURABLE_CLIENT, ORCHESTRATION_TRIGGER, served_name
from azure.functions.decorators.core import Binding, Trigger
from azure.functions.decorators.function_app import Function
from msgspec import Struct

from perdure.host.injection import Injection, injection_of
from perdure.host.problems import AppProblem, function_location
from perdure.host.routes import Route, RouteError
from perdure.host.settings import AppSettings, Settings

HTTP_TRIGGER = "httpTrigger"
_HTTP_OUTPUT = "http"
_RETURNED = "$return"

_SERVED_BINDINGS = {
    HTTP_TRIGGER: {HTTP_TRIGGER, _HTTP_OUTPUT, DURABLE_CLIENT},
    ORCHESTRATION_TRIGGER: {ORCHESTRATION_TRIGGER},
    ACTIVITY_TRIGGER: {ACTIVITY_TRIGGER, DURABLE_CLIENT},
}
"""By trigger."""


class HttpFunction(Struct, frozen=True):
    name: str
    call: Any
    """The user's function, to be called with keyword arguments."""
    request_parameter: str
    injection: Injection
    methods: frozenset[str]
    """Upper case; empty for all."""
    route: Route
    """With the route prefix."""
    has_output: bool
    """It has an HTTP output binding, so what it returns is the response."""


class DurableFunction(Struct, frozen=True):
    name: str
    called: str
    """The name that starts and calls it."""
    trigger: str
    function: Function
    injection: Injection


class NotServed(Struct, frozen=True):
    name: str
    reason: str


class AppFunctions(Struct, frozen=True):
    http: list[HttpFunction]
    durable: list[DurableFunction]
    """Orchestrators and activities."""
    not_served: list[NotServed]
    disabled: list[str]


def index_functions(functions: Iterable[Function], settings: Settings, app_settings: AppSettings) -> AppFunctions:
    """Raises AppProblem."""
    index = AppFunctions([], [], [], [])
    for function in functions:
        name = function.get_function_name() or ""
        trigger = function.get_trigger()
        assert trigger is not None, "get_functions refuses a function without a trigger"
        if settings.functions is not None and name.lower() not in settings.functions:
            continue
        if app_settings.is_disabled(name):
            index.disabled.append(name)
            continue
        reason = _why_not_served(function, trigger, settings, app_settings)
        if reason is not None:
            index.not_served.append(NotServed(name, reason))
        elif trigger.type == HTTP_TRIGGER:
            index.http.append(_http_function(function, name, trigger, settings))
        else:
            index.durable.append(_durable_function(function, name, trigger))
    return index


def _why_not_served(function: Function, trigger: Trigger, settings: Settings, app_settings: AppSettings) -> str | None:
    served = _SERVED_BINDINGS.get(str(trigger.type))
    if served is None:
        return f"Perdure has no {trigger.type}"
    bindings = function.get_bindings()
    for binding in bindings:
        if binding.type not in served:
            return f"Perdure has no binding '{binding.type}' for a function with {trigger.type} ({binding.name})"
        if binding.type == _HTTP_OUTPUT and binding.name != _RETURNED:
            return f"Perdure has no output parameter for the response ({binding.name}); return it"
    clients: list[Binding] = [binding for binding in bindings if binding.type == DURABLE_CLIENT]
    for client in (*clients, *client_inputs(function).values()):
        reason = _why_no_client(client, settings, app_settings)
        if reason is not None:
            return reason
    return None


def _why_no_client(client: Binding, settings: Settings, app_settings: AppSettings) -> str | None:
    properties = _properties(client)
    try:
        hub = app_settings.resolve(properties.get("taskHub") or settings.hub)
        app_settings.resolve(properties.get("connectionName") or "")
    except ValueError as error:
        return str(error)
    if hub.lower() != settings.hub.lower():
        return f"its durable client asks for the task hub '{hub}', this host serves '{settings.hub}'"
    return None


def _properties(binding: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", binding.get_dict_repr())


def _durable_function(function: Function, name: str, trigger: Trigger) -> DurableFunction:
    kind = str(trigger.type)
    # An orchestrator has one parameter, whatever its name; the handle around it passes it on by position.
    injection = injection_of(function, trigger.name) if kind == ACTIVITY_TRIGGER else Injection((), False)
    return DurableFunction(name, served_name(function), kind, function, injection)


def _http_function(function: Function, name: str, trigger: Trigger, settings: Settings) -> HttpFunction:
    properties = _properties(trigger)
    template = f"{settings.route_prefix}/{str(properties.get('route', name)).strip('/')}"
    call = function.get_user_function()
    try:
        route = Route(template)
        if route.reserved:
            raise RouteError(f"the route {template!r} begins with a path that belongs to the host (admin, runtime)")
    except RouteError as error:
        raise AppProblem(
            f"Function {name}: {error}.", location=function_location(call), advice="Change the route."
        ) from None
    return HttpFunction(
        name=name,
        call=call,
        request_parameter=trigger.name,
        injection=injection_of(function, trigger.name),
        methods=frozenset(str(method).upper() for method in properties.get("methods") or ()),
        route=route,
        has_output=any(binding.type == _HTTP_OUTPUT for binding in function.get_bindings()),
    )
