"""Taking an address, serving on it, and stopping by signal."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
import threading
from pathlib import Path

import httpx
import pytest

from perdure.host.asgi import Receive, Scope, Send
from perdure.host.default_store import DEFAULT_STORE, prepare_default_store
from perdure.host.problems import SettingsProblem
from perdure.host.server import HttpServer, is_loopback, take_address
from perdure.host.settings import CommandLine, read_settings
from perdure.host.signals import StopSignals, exit_code


class Slow:
    """An ASGI app that answers when it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.set()
        while scope["path"] == "/slow" and not self.go.is_set():
            await asyncio.sleep(0.005)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


# --- addresses -------------------------------------------------------------------------------------------------------


def test_port_0_takes_a_free_port_and_tells_it() -> None:
    address = take_address("127.0.0.1", 0, insecure=False)
    assert address.port > 0
    assert address.url == f"http://localhost:{address.port}"
    address.listener.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.1", "example.com"])
def test_an_address_that_others_can_reach_is_refused_unless_it_is_wanted(host: str) -> None:
    with pytest.raises(SettingsProblem, match="--insecure"):
        take_address(host, 0, insecure=False)


def test_an_address_that_others_can_reach_is_taken_if_it_is_wanted() -> None:
    address = take_address("0.0.0.0", 0, insecure=True)
    assert address.url == f"http://localhost:{address.port}"
    address.listener.close()


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("LocalHost", True), ("10.0.0.1", False)],
)
def test_loopback_addresses_are_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_port_in_use_is_told_with_its_number_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsProblem) as caught:
            take_address("127.0.0.1", port, insecure=False)
    assert f"Port {port} on 127.0.0.1 is in use by another program." in str(caught.value)
    assert "--port 0" in str(caught.value)


def test_a_port_that_another_process_begins_to_listen_on_meanwhile_is_told() -> None:
    first = take_address("127.0.0.1", 0, insecure=False)
    second = take_address("127.0.0.1", first.port, insecure=False)
    first.listener.listen()
    with pytest.raises(SettingsProblem, match=f"Port {first.port} on 127.0.0.1 is in use"):
        HttpServer(Slow(), second).start()
    first.listener.close()


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(SettingsProblem, match=r"Port 0 on 192\.0\.2\.1 cannot be taken"):
        take_address("192.0.2.1", 0, insecure=True)


# --- serving ---------------------------------------------------------------------------------------------------------


def test_requests_are_answered_from_start_to_stop() -> None:
    address = take_address("127.0.0.1", 0, insecure=False)
    server = HttpServer(Slow(), address)
    server.start()
    assert httpx.get(f"http://127.0.0.1:{address.port}/").text == "ok"
    server.stop(1)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{address.port}/")


def test_a_request_under_way_may_end_while_the_server_stops() -> None:
    app = Slow()
    address = take_address("127.0.0.1", 0, insecure=False)
    server = HttpServer(app, address)
    server.start()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(httpx.get(f"http://127.0.0.1:{address.port}/slow").text))
    asking.start()
    app.entered.wait()
    stopping = threading.Thread(target=server.stop, args=(60,))
    stopping.start()
    app.go.set()
    stopping.join()
    asking.join()
    assert answers == ["ok"]


def test_a_request_that_does_not_end_in_time_is_given_up() -> None:
    app = Slow()
    address = take_address("127.0.0.1", 0, insecure=False)
    server = HttpServer(app, address)
    server.start()
    failures: list[Exception] = []

    def ask() -> None:
        try:
            httpx.get(f"http://127.0.0.1:{address.port}/slow", timeout=None).raise_for_status()
        except httpx.HTTPError as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    app.entered.wait()
    server.stop(0)
    asking.join()
    assert len(failures) == 1


# --- signals ---------------------------------------------------------------------------------------------------------


def test_a_signal_before_there_is_anything_to_stop_ends() -> None:
    ended: list[int] = []
    with StopSignals(ended.append):
        signal.raise_signal(signal.SIGTERM)
    assert ended == [143]


def test_the_first_signal_asks_and_the_second_ends_with_the_code_of_shells() -> None:
    ended: list[int] = []
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(ended.append) as signals:
        signals.ask_first()
        signal.raise_signal(signal.SIGTERM)
        assert signals.wait() == signal.SIGTERM
        assert ended == []
        signal.raise_signal(signal.SIGINT)
    assert ended == [130]
    assert exit_code(signal.SIGTERM) == 143
    assert signal.getsignal(signal.SIGTERM) is before


# --- the default store -----------------------------------------------------------------------------------------------


def test_the_default_store_is_in_a_folder_of_its_own_that_git_ignores(tmp_path: Path) -> None:
    for _ in range(2):
        assert prepare_default_store(tmp_path, "Shop") == DEFAULT_STORE
    assert (tmp_path / ".perdure" / ".gitignore").read_text() == "*\n"


def test_an_app_keeps_its_hub_when_its_folder_is_renamed(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    first = read_settings(tmp_path / "shop", CommandLine(), {})
    prepare_default_store(tmp_path / "shop", first.hub)
    (tmp_path / "shop").rename(tmp_path / "store")
    assert read_settings(tmp_path / "store", CommandLine(), {}).hub == first.hub == "shop"
    assert read_settings(tmp_path / "store", CommandLine(store="memory://"), {}).hub == "store"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of another kind")
def test_the_folder_of_the_default_store_is_for_its_owner_only(tmp_path: Path) -> None:
    (tmp_path / ".perdure").mkdir(mode=0o755)
    prepare_default_store(tmp_path, "Shop")
    assert stat.S_IMODE((tmp_path / ".perdure").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / ".perdure" / ".gitignore").stat().st_mode) == 0o600


def test_a_place_where_no_store_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / ".perdure").write_text("a file")
    with pytest.raises(SettingsProblem, match="--store") as caught:
        prepare_default_store(tmp_path, "Shop")
    assert str(tmp_path / ".perdure") in str(caught.value)
    assert os.path.isfile(tmp_path / ".perdure")
