"""HTTP on a thread and an event loop of its own, by uvicorn.

The address is taken before the app is loaded, so that a taken port is told at once and the app knows its own URL;
connections are accepted from `start` on, when there is something that answers.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from perdure.host.asgi import Receive, Scope, Send
from perdure.host.problems import SettingsProblem

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 75


class Address:
    """A place to listen, taken. `port` is the real one."""

    def __init__(self, host: str, listener: socket.socket) -> None:
        self.host = host
        self.listener = listener
        self.port: int = listener.getsockname()[1]

    @property
    def url(self) -> str:
        """The URL for a client on this machine."""
        if is_loopback(self.host) or self.host in ("0.0.0.0", "::", ""):
            return f"http://localhost:{self.port}"
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost may mean anything."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def take_address(host: str, port: int, *, insecure: bool) -> Address:
    """Raises SettingsProblem."""
    if not is_loopback(host) and not insecure:
        raise SettingsProblem(
            f"Listening on {host or 'all addresses'} would let other machines start and steer instances without a key.",
            advice="Listen on 127.0.0.1, or add --insecure if everyone who can reach this machine may do so.",
        )
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise SettingsProblem(
            f"The address {host!r} is not known: {error.strerror or error}.",
            advice="Give an address of this machine by --host; 127.0.0.1 is for this machine alone.",
        ) from error
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            # A port whose last connections still linger may be taken again. On Windows the option means
            # something else: it would let two processes share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    if sys.platform != "win32":
        # A process that the app forks off inherits the listener, and would keep the port after the end of this one.
        os.register_at_fork(after_in_child=listener.close)
    return Address(host, listener)


def _refused(host: str, port: int, error: OSError) -> SettingsProblem:
    if error.errno == errno.EADDRINUSE:
        return SettingsProblem(
            f"Port {port} on {host} is in use by another program.",
            advice=f"Stop that program, or choose another port: --port {port % 65535 + 1}, or --port 0 for a free one.",
        )
    return SettingsProblem(
        f"Port {port} on {host} cannot be taken: {error.strerror or error}.",
        advice="Choose another address (--host) or port (--port); --port 0 takes a free one.",
    )


class HttpServer:
    def __init__(self, app: AsgiApp, address: Address) -> None:
        self._app = app
        self._address = address
        self._server: Any = None
        self._up = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="perdure-http", daemon=True)

    def start(self) -> None:
        """Returns once requests are answered. Raises SettingsProblem."""
        self._thread.start()
        self._up.wait()
        if isinstance(self._error, OSError):
            # Two processes may take an address; only one of them can listen.
            raise _refused(self._address.host, self._address.port, self._error) from self._error
        if self._error is not None:
            raise self._error

    def stop(self, seconds: float) -> None:
        """Accept no more; give requests under way so long to end."""
        if self._server is not None:
            self._server.config.timeout_graceful_shutdown = seconds
            self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._up.set()
            self._address.listener.close()

    async def _serve(self) -> None:
        import uvicorn

        up = self._up

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets=sockets)
                up.set()

        self._server = Server(
            uvicorn.Config(
                self._app,
                http="httptools",
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            )
        )
        await self._server.serve(sockets=[self._address.listener])
