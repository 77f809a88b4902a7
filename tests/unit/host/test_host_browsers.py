"""What a page in a browser on this machine cannot do."""

from __future__ import annotations

import pytest

from perdure.host.asgi import Request
from perdure.host.browsers import refuse_foreign_name, refuse_foreign_page


def request(method: str = "GET", **headers: str) -> Request:
    async def receive() -> dict[str, object]:
        return {}

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "path": "/", "raw_path": b"/", "headers": raw}, receive)


@pytest.mark.parametrize(
    "name", ["localhost", "localhost:7071", "127.0.0.1:7071", "127.8.9.1", "[::1]:7071", "a.localhost", ""]
)
def test_a_name_of_this_machine_is_answered(name: str) -> None:
    assert refuse_foreign_name(request(host=name)) is None


@pytest.mark.parametrize(
    "name", ["evil.example", "localhost.evil.example", "192.168.0.7", "0.0.0.0", "[::2]", "[", "127.0.0.1.evil.example"]
)
def test_another_name_is_refused_though_it_leads_here(name: str) -> None:
    refused = refuse_foreign_name(request(host=name))
    assert refused is not None and refused.status == 403
    assert b"--insecure" in refused.body


def test_a_page_of_another_site_cannot_change_anything() -> None:
    refused = refuse_foreign_page(request("POST", origin="https://evil.example"))
    assert refused is not None and refused.status == 403
    assert refuse_foreign_page(request("GET", origin="https://evil.example")) is None
    assert refuse_foreign_page(request("POST", origin="http://localhost:3000")) is None
    assert refuse_foreign_page(request("POST")) is None
