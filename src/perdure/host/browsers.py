"""Requests that a web page in somebody's browser sends, though nobody meant to.

A host that listens on the loopback address has no keys, as whoever can reach it owns the machine. A browser on that
machine reaches it too. A page of another site may send it requests (the browser only keeps the answers from it), and
with a name that resolves to 127.0.0.1 a moment later it may read the answers as well.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from perdure.host.asgi import Request, Response, json_response

_ADVICE = "If the host is meant to be reached like this, behind a proxy for example, start it with --insecure."


def refuse_foreign_name(request: Request) -> Response | None:
    """A 403 if the request was not sent to this machine by a name or address of its own; None if it was."""
    authority = request.headers.get("host", "")
    if not authority or _is_local(authority):
        return None
    return _refusal(f"This host answers requests to localhost, not to {authority!r:.100}. {_ADVICE}")


def refuse_foreign_page(request: Request) -> Response | None:
    """A 403 if a page of another site would change something; None otherwise."""
    origin = request.headers.get("origin", "")
    if request.method in ("GET", "HEAD", "OPTIONS") or not origin or _is_local(urlsplit(origin).netloc):
        return None
    return _refusal(f"A page of {origin!r:.100} may not manage instances here. {_ADVICE}")


def _is_local(authority: str) -> bool:
    try:
        name = urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _refusal(message: str) -> Response:
    return json_response(403, msgspec.json.encode({"Message": message}))
