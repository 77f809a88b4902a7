"""The management API: start, read and steer instances over HTTP.

Paths, parameters, status codes and the order of the checks are those of Durable Functions, so that existing scripts and
tools work. Where the original does harm this API differs: DELETE takes only an instance that has ended (else 409). A
value that is not JSON by the standard stands in a body as a string (see `json_values`); `parkedReason` is there for an
instance that is parked, and only then.
"""

from __future__ import annotations

import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from perdure.core.codec import decode_failure
from perdure.core.errors import (
    CallerError,
    HostStopping,
    InstanceEnded,
    InstanceExists,
    InstanceNotFound,
    InvalidRequest,
    Overloaded,
    PerdureError,
    StoreUnavailable,
    UnknownFunction,
    WrongStatus,
)
from perdure.core.failures import reason
from perdure.core.protocols import InstanceQuery, StartRequest, TaskHub
from perdure.core.state import ENDED, InstanceRow
from perdure.host.asgi import Request, Response, json_response
from perdure.host.dates import parse_date, whole_seconds
from perdure.host.history_view import history_view
from perdure.host.json_values import Value, as_string, embed, output_body, read_json_text
from perdure.host.links import WEBHOOK_PATH, start_links

log = logging.getLogger("perdure.host")

DEFAULT_PAGE = 100
MAX_PAGE = 1000
"""A page may be smaller than the client asks for, as long as it carries a token."""

NOT_FOUND = Response(404)
_ACCEPTED = Response(202)
_GONE = Response(410)
_CONTINUATION = "x-ms-continuation-token"
_STARTED_RETRY_SECONDS = "10"
_STATUS_RETRY_SECONDS = "5"
_OVERLOAD_RETRY_SECONDS = "1"

_BAD_ARGUMENT = "One or more of the arguments submitted is incorrect"
_WENT_WRONG = "Something went wrong while processing your request"

Endpoint = Callable[[Request, list[str]], Awaitable[Response]]


class ManagementApi:
    def __init__(self, hub: TaskHub) -> None:
        self._hub = hub

    async def respond(self, request: Request, path: list[str]) -> Response:
        """`path` is what follows the base, decoded. Unknown paths and wrong methods are 404.

        Raises BodyTooLarge, ClientGone.
        """
        endpoint = self._endpoint(request.method, [part.lower() for part in path])
        if endpoint is None:
            return NOT_FOUND
        asked = request.query.text("taskHub")
        if asked is not None and asked.lower() != self._hub.name.lower():
            return _bad_argument(InvalidRequest(f"This host serves the task hub '{self._hub.name}', not '{asked}'."))
        try:
            return await endpoint(request, path)
        except CallerError as error:
            return refusal(error)
        except StoreUnavailable as error:
            log.error("The store did not answer: %s", error)
            return _error(503, _WENT_WRONG, error)
        except PerdureError as error:
            log.error("%s %s failed", request.method, request.path, exc_info=error)
            return _error(500, _WENT_WRONG, error)

    def _endpoint(self, method: str, path: list[str]) -> Endpoint | None:
        match method, path:
            case "POST", ["orchestrators", _] | ["orchestrators", _, _]:
                return self._start
            case "GET", ["instances"]:
                return self._list
            case "GET", ["instances", _]:
                return self._status
            case "DELETE", ["instances", _]:
                return self._purge
            case "POST", ["instances", _, "raiseevent", _]:
                return self._raise_event
            case "POST", ["instances", _, "terminate"]:
                return self._terminate
            case "POST", ["instances", _, "suspend"]:
                return self._suspend
            case "POST", ["instances", _, "resume"]:
                return self._resume
            case _:
                return None

    async def _start(self, request: Request, path: list[str]) -> Response:
        body = await request.body()
        try:
            text = read_json_text(body) if body else None
        except ValueError as error:
            return _error(400, "Invalid JSON content", error)
        timeout, interval = request.query.number("timeout"), request.query.number("pollingInterval")
        # The call waits for the ending only if both are given.
        wait_seconds = timeout if interval is not None else None
        if wait_seconds is not None and interval is not None and interval > wait_seconds:
            return _bad_argument(
                InvalidRequest(f"Total timeout {wait_seconds:g} should be bigger than retry timeout {interval:g}")
            )
        instance_id = await self._hub.start(
            StartRequest(
                name=path[1],
                instance_id=path[2] if len(path) > 2 else None,
                input=text,
                version=request.query.text("version"),
            )
        )
        if wait_seconds is not None:
            row = await self._hub.wait(instance_id, wait_seconds)
            if row.status == "Completed":
                return json_response(200, output_body(row.output))
            if row.status in ENDED:
                return json_response(200, msgspec.json.encode(_status_body(row, show_input=True)))
        return self._started(request, instance_id)

    def _started(self, request: Request, instance_id: str) -> Response:
        links = start_links(request.origin + WEBHOOK_PATH, self._hub.name, instance_id)
        return json_response(
            202,
            msgspec.json.encode(links),
            [("location", links["statusQueryGetUri"]), ("retry-after", _STARTED_RETRY_SECONDS)],
        )

    async def _status(self, request: Request, path: list[str]) -> Response:
        row = await self._hub.get(path[1])
        if row is None:
            return NOT_FOUND
        show_input = request.query.flag("showInput", True)
        body = _status_body(row, show_input=show_input)
        if request.query.flag("showHistory", False) and row.status != "Pending":
            records = await self._hub.history(path[1])
            show_output = request.query.flag("showHistoryOutput", False)
            body["historyEvents"] = history_view(records, show_input=show_input, show_output=show_output)
        encoded = msgspec.json.encode(body)
        if row.status not in ENDED:
            return json_response(202, encoded, [("location", request.url), ("retry-after", _STATUS_RETRY_SECONDS)])
        fails = row.status == "Failed" and request.query.flag("returnInternalServerErrorOnFailure", False)
        return json_response(500 if fails else 200, encoded)

    async def _list(self, request: Request, path: list[str]) -> Response:
        query = request.query
        try:
            after = _read_token(request.headers.get(_CONTINUATION, ""))
        except ValueError:
            return _bad_argument(InvalidRequest(f"The value of {_CONTINUATION} is not one that this API gave out."))
        top = query.integer("top") or 0
        size = min(top if top > 0 else DEFAULT_PAGE, MAX_PAGE)
        # One more than the page holds tells whether there is another page.
        rows = await self._hub.query(
            InstanceQuery(
                created_from=parse_date(query.text("createdTimeFrom") or ""),
                created_to=parse_date(query.text("createdTimeTo") or ""),
                statuses=tuple(query.items("runtimeStatus")),
                id_prefix=query.text("instanceIdPrefix"),
                after_key=after,
                limit=size + 1,
            )
        )
        headers = [(_CONTINUATION, _token(rows[size - 1].key))] if len(rows) > size else []
        show_input = query.flag("showInput", True)
        return json_response(
            200, msgspec.json.encode([_status_body(row, show_input=show_input) for row in rows[:size]]), headers
        )

    async def _raise_event(self, request: Request, path: list[str]) -> Response:
        _, instance_id, _, name = path
        row = await self._hub.get(instance_id)
        if row is None:
            return NOT_FOUND
        if row.status in ENDED:
            return _GONE
        if request.media_type != "application/json":
            return json_response(
                400, msgspec.json.encode({"Message": "Only application/json request content is supported"})
            )
        try:
            text = read_json_text(await request.body())
        except ValueError as error:
            return _error(400, "Invalid JSON content", error)
        await self._hub.raise_event(instance_id, name, text)
        return _ACCEPTED

    async def _terminate(self, request: Request, path: list[str]) -> Response:
        await self._hub.terminate(path[1], request.query.text("reason"))
        return _ACCEPTED

    async def _suspend(self, request: Request, path: list[str]) -> Response:
        await self._hub.suspend(path[1], request.query.text("reason"))
        return _ACCEPTED

    async def _resume(self, request: Request, path: list[str]) -> Response:
        await self._hub.resume(path[1], request.query.text("reason"))
        return _ACCEPTED

    async def _purge(self, request: Request, path: list[str]) -> Response:
        try:
            await self._hub.purge(path[1])
        except WrongStatus as error:
            return _error(409, str(error), error)
        return json_response(200, b'{"instancesDeleted":1}')


# --- bodies -----------------------------------------------------------------------------------------------------------


def _status_body(row: InstanceRow, *, show_input: bool) -> dict[str, Any]:
    """In the documented order of keys."""
    body: dict[str, Any] = {
        "name": row.name,
        "instanceId": row.id,
        "runtimeStatus": row.status,
        "input": embed(row.input) if show_input else None,
        "customStatus": embed(row.custom_status),
        "output": _output(row),
        "createdTime": whole_seconds(row.created_at),
        "lastUpdatedTime": whole_seconds(row.updated_at),
    }
    if row.parked is not None:
        body["parkedReason"] = as_string(row.parked)
    return body


def _output(row: InstanceRow) -> Value:
    match row.status:
        case "Completed" | "Terminated":
            return embed(row.output)
        case "Failed":
            return None if row.failure is None else as_string(reason(decode_failure(row.failure)))
        case "Pending" | "Running" | "Suspended":
            return None


def refusal(error: CallerError) -> Response:
    """What a client hears when its request cannot be carried out."""
    match error:
        case InstanceNotFound():
            return NOT_FOUND
        case InstanceEnded():
            return _GONE
        case InvalidRequest() | UnknownFunction():
            return _bad_argument(error)
        case InstanceExists():
            return _error(500, _WENT_WRONG, error, "DurableTask.Core.Exceptions.OrchestrationAlreadyExistsException")
        case WrongStatus():
            return _error(500, _WENT_WRONG, error, "System.InvalidOperationException")
        case Overloaded():
            return _error(429, str(error), error, headers=[("retry-after", _OVERLOAD_RETRY_SECONDS)])
        case HostStopping():
            return _error(503, str(error), error)
        case _:
            return _error(500, _WENT_WRONG, error)


def _bad_argument(error: CallerError) -> Response:
    return _error(400, _BAD_ARGUMENT, error, "System.ArgumentException")


def _error(
    status: int, message: str, error: Exception, type_name: str = "", headers: list[tuple[str, str]] | None = None
) -> Response:
    body = {
        "Message": as_string(message),
        "ExceptionMessage": as_string(str(error)),
        "ExceptionType": type_name or type(error).__name__,
        "StackTrace": None,
    }
    return json_response(status, msgspec.json.encode(body), headers or [])


def _token(key: int) -> str:
    return urlsafe_b64encode(b"k%d" % key).decode()


def _read_token(token: str) -> int:
    """Raises ValueError."""
    if not token:
        return 0
    text = urlsafe_b64decode(token.encode()).decode()
    if not text.startswith("k"):
        raise ValueError(token)
    key = int(text[1:])
    if not 0 <= key < 1 << 63:
        raise ValueError(token)
    return key
