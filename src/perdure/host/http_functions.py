"""HTTP-triggered functions: a request becomes `func.HttpRequest`, what the function returns becomes the response."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

import azure.functions as func
from azure.durable_functions import DurableClientError
from azure.functions.http import HttpRequest

from perdure.core.errors import HostStopping, Overloaded
from perdure.host.asgi import Request, Response, merged
from perdure.host.indexing import HttpFunction
from perdure.host.injection import Injector
from perdure.host.management import refusal
from perdure.host.problems import user_traceback
from perdure.host.routes import RouteTable
from perdure.host.user_code import FunctionRaised, UserCode

log = logging.getLogger("perdure.functions")

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_FAILED = Response(500)
_NO_OUTPUT = Response(204)


class HttpFunctions:
    def __init__(self, functions: Iterable[HttpFunction], user_code: UserCode, injector: Injector) -> None:
        self._table: RouteTable[HttpFunction] = RouteTable()
        for function in functions:
            self._table.add(function.route, function)
        self._user_code = user_code
        self._injector = injector

    def find(self, method: str, segments: Sequence[str]) -> tuple[HttpFunction, dict[str, str]] | None:
        """The function for a path and the values of its route; one for another method is none."""
        for function, values in self._table.find(segments):
            if not function.methods or method in function.methods:
                return function, values
        return None

    async def respond(self, request: Request, function: HttpFunction, route_values: dict[str, str]) -> Response:
        """Raises BodyTooLarge, ClientGone."""
        arguments = await self._arguments(request, function, route_values)
        try:
            result = await self._user_code.call(function.call, arguments)
        except FunctionRaised as raised:
            return _failure(function.name, raised.error)
        if result is None and not function.has_output:
            return _NO_OUTPUT
        try:
            return _response(result)
        except (TypeError, ValueError) as error:
            log.error("Function %s: its response cannot be sent: %s", function.name, error)
            return _FAILED

    async def _arguments(
        self, request: Request, function: HttpFunction, route_values: dict[str, str]
    ) -> dict[str, Any]:
        arguments = self._injector.arguments(function.name, function.injection, request.headers)
        arguments[function.request_parameter] = HttpRequest(
            method=request.method,
            url=request.url,
            headers=request.headers,
            params=merged(request.query.pairs),
            route_params=route_values,
            body_type="bytes",
            body=await request.body(),
        )
        return arguments


def _failure(name: str, error: BaseException) -> Response:
    refused = _refused_at_the_door(error)
    if refused is not None:
        return refusal(refused)
    log.error("Function %s failed:\n%s", name, user_traceback(error).rstrip())
    return _FAILED


def _refused_at_the_door(error: BaseException | None) -> Overloaded | HostStopping | None:
    """The refusal of a durable client that the function let through: no fault of the function."""
    while error is not None:
        if isinstance(error, (Overloaded, HostStopping)):
            return error
        error = error.error if isinstance(error, DurableClientError) else error.__cause__
    return None


def _response(result: Any) -> Response:
    """Raises TypeError, ValueError on what is no response, or none that HTTP can carry."""
    if isinstance(result, str):
        return Response(200, result.encode(), (("content-type", "text/plain; charset=utf-8"),))
    if not isinstance(result, func.HttpResponse):
        raise TypeError(f"it returned {type(result).__name__}; an HTTP function returns func.HttpResponse or str")
    status: Any = result.status_code
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"its status code is {status!r}")
    # The length is that of the body, and how it is transferred is between server and client.
    headers = [
        (str(name), str(value))
        for name, value in result.headers.items()
        if name.lower() not in ("content-length", "transfer-encoding")
    ]
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"its header {name!r} is {value!r}")
    if not any(name.lower() == "content-type" for name, _ in headers):
        charset = f"; charset={result.charset}" if result.mimetype.startswith("text/") else ""
        headers.append(("content-type", f"{result.mimetype}{charset}"))
    return Response(status, result.get_body(), tuple(headers))
