"""HTTP as the host's rooms see it: a request, a response, and the ASGI messages at their back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[str, str], ...]

MAX_BODY_BYTES = 104_857_600


class ClientGone(Exception):
    """The client closed the connection; nobody waits for a response."""


class BodyTooLarge(Exception):
    """The body has more than `MAX_BODY_BYTES`."""


class Query:
    """The parameters of a query, by names without regard to case, decoded."""

    def __init__(self, text: str) -> None:
        self.pairs = parse_qsl(text, keep_blank_values=True)
        self._values: dict[str, list[str]] = {}
        for name, value in self.pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def text(self, name: str) -> str | None:
        values = self._values.get(name.lower())
        return values[0] if values else None

    def flag(self, name: str, default: bool) -> bool:
        """What is neither true nor false counts as not given; so do unparseable numbers."""
        return {"true": True, "false": False}.get((self.text(name) or "").strip().lower(), default)

    def integer(self, name: str) -> int | None:
        try:
            return int(self.text(name) or "")
        except ValueError:
            return None

    def number(self, name: str) -> float | None:
        try:
            value = float(self.text(name) or "")
        except ValueError:
            return None
        return value if abs(value) < float("inf") else None

    def items(self, name: str) -> list[str]:
        """The elements of a list that is separated by commas, or repeated, or both."""
        values = self._values.get(name.lower(), [])
        return [item.strip() for value in values for item in value.split(",") if item.strip()]


class Request:
    """`path` is what follows the place where the host is mounted, as the client sent it; `segments` is it decoded."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._scope = scope
        self.method: str = scope["method"]
        self.path = _path_below_mount(scope)
        self.segments = [unquote(part) for part in self.path.strip("/").split("/")] if self.path.strip("/") else []
        self.query_text: str = scope.get("query_string", b"").decode("latin-1")
        self.query = Query(self.query_text)
        self.headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            self.headers[name] = f"{self.headers[name]},{value}" if name in self.headers else value

    @property
    def origin(self) -> str:
        """Scheme and authority, as the client named them, and the path below which the host is mounted."""
        authority = self.headers.get("host")
        if not authority:
            host, port = self._scope.get("server") or ("localhost", None)
            authority = host if port is None else f"{host}:{port}"
        return f"{self._scope.get('scheme', 'http')}://{authority}{self._scope.get('root_path', '').rstrip('/')}"

    @property
    def url(self) -> str:
        return f"{self.origin}{self.path}" + (f"?{self.query_text}" if self.query_text else "")

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def body(self) -> bytes:
        """All of it. Raises BodyTooLarge, ClientGone."""
        if (announced := self.headers.get("content-length", "")).isdigit() and int(announced) > MAX_BODY_BYTES:
            raise BodyTooLarge
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise BodyTooLarge
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)


def _path_below_mount(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    path: str = raw.decode("latin-1") if raw else scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(root) else path


class Response(Struct, frozen=True):
    status: int
    body: bytes = b""
    headers: Headers = ()

    async def send(self, send: Send) -> None:
        """Raises UnicodeEncodeError if a header is not Latin-1."""
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        # Neither may have a body, nor says how long it would be.
        body = b"" if self.status in (204, 304) else self.body
        if self.status not in (204, 304):
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


JSON_TYPE = ("content-type", "application/json; charset=utf-8")


def json_response(status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> Response:
    return Response(status, body, (JSON_TYPE, *headers))


def merged(parameters: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Name and value pairs as a mapping; the values of a repeated name are joined by commas."""
    result: dict[str, str] = {}
    for name, value in parameters:
        result[name] = f"{result[name]},{value}" if name in result else value
    return result
