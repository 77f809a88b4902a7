"""The ASGI app of a host: what belongs to the host itself, the management API, and the app's HTTP functions.

Raw ASGI, so that it runs under any server and mounts into another app (`root_path` is what it is mounted at).
"""

from __future__ import annotations

import asyncio
import logging
import time
from importlib import resources

import msgspec

from perdure.core.errors import HostStopping
from perdure.host.asgi import BodyTooLarge, ClientGone, Receive, Request, Response, Scope, Send, json_response
from perdure.host.browsers import refuse_foreign_name, refuse_foreign_page
from perdure.host.http_functions import HttpFunctions
from perdure.host.links import WEBHOOK_PATH
from perdure.host.management import NOT_FOUND, ManagementApi, refusal

log = logging.getLogger("perdure.host")

_WEBHOOKS = WEBHOOK_PATH.strip("/").split("/")
_TOO_LARGE = Response(413, headers=(("connection", "close"),))
_EMPTY = Response(200)


class Gateway:
    """`problems` are the reasons why functions are not served, for the status. `local`: only this machine is served."""

    def __init__(
        self,
        *,
        host_id: str,
        version: str,
        management: ManagementApi,
        functions: HttpFunctions,
        problems: list[str],
        local: bool = True,
    ) -> None:
        self._local = local
        self._host_id = host_id
        self._version = version
        self._management = management
        self._functions = functions
        self._problems = problems
        self._started = time.monotonic()
        self._stopping = False

    def begin_stopping(self) -> None:
        """From here on functions are not called and nothing is started; what is there can still be read."""
        self._stopping = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the host speaks HTTP, not {scope['type']!r}")
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except BodyTooLarge:
            response = _TOO_LARGE
        except ClientGone:
            return
        except asyncio.CancelledError:
            # The server has given the request up, as the host stops.
            response = refusal(HostStopping("The host has stopped."))
        except Exception as error:
            log.critical("internal error in %s %s", request.method, request.path, exc_info=error)
            response = Response(500)
        await response.send(send)

    async def _respond(self, request: Request) -> Response:
        refused = refuse_foreign_name(request) if self._local else None
        if refused is not None:
            return refused
        segments = request.segments
        words = [segment.lower() for segment in segments[:3]]
        if words == _WEBHOOKS:
            refused = refuse_foreign_page(request) if self._local else None
            if refused is not None:
                return refused
            return await self._management.respond(request, segments[3:])
        if words[:1] == ["admin"]:
            return self._admin(request.method, [segment.lower() for segment in segments[1:]])
        if words[:1] == ["runtime"]:
            return NOT_FOUND
        found = self._functions.find(request.method, segments)
        if found is not None:
            if self._stopping:
                return refusal(HostStopping("The host is stopping and takes nothing new."))
            return await self._functions.respond(request, *found)
        if not segments and request.method == "GET":
            return _landing_page()
        return NOT_FOUND

    def _admin(self, method: str, path: list[str]) -> Response:
        match method, path:
            case "GET", ["host", "status"]:
                return self._status()
            case "GET" | "POST", ["host", "ping"]:
                return _EMPTY
            case _:
                return NOT_FOUND

    def _status(self) -> Response:
        status: dict[str, object] = {
            "id": self._host_id,
            "state": "Stopping" if self._stopping else "Running",
            "version": self._version,
            "versionDetails": f"Perdure {self._version}",
            "processUptime": int((time.monotonic() - self._started) * 1000),
        }
        if self._problems:
            status["errors"] = self._problems
        return json_response(200, msgspec.json.encode(status))


def _landing_page() -> Response:
    page = resources.files("perdure.host").joinpath("landing.html").read_bytes()
    return Response(200, page, (("content-type", "text/html; charset=utf-8"),))
