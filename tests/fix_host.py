"""Real hosts: `perdure start` in a process of its own, on an app that a test wrote, asked over HTTP.

A folder of tests has the fixture by `from fix_host import start_host` in its conftest.py. Nothing here waits for time
to pass: every wait is for something to happen, and ends with the host's log if it does not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"
WEBHOOKS = "/runtime/webhooks/durabletask"
PATIENCE_SECONDS = 60.0
"""Only a test that fails waits so long."""

T = TypeVar("T")


def write_app(folder: Path, source: str, **files: str) -> Path:
    """An app with `source` as its function_app.py; `files` are others, "." in the name written as "__"."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "function_app.py").write_text(textwrap.dedent(source), encoding="utf-8")
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(textwrap.dedent(text), encoding="utf-8")
    return folder


def host_environment(**extra: str) -> dict[str, str]:
    """The environment of this process, without what is set for tests and with the source importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PERDURE_", "PYTHONWARNINGS"))}
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH", "")]))
    return {**kept, "PYTHONPATH": path, **extra}


def until(condition: Callable[[], T], what: Callable[[], str]) -> T:
    """The first true value of `condition`; fails with the text of `what` if there is none."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    pytest.fail(what())


class HostProcess:
    """`perdure start` on one app. `base_url` and `client` are there once it is ready."""

    def __init__(
        self,
        app: Path,
        log: Path,
        options: tuple[str, ...],
        environment: dict[str, str],
        program: tuple[str, ...] = (sys.executable, "-m", "perdure"),
    ) -> None:
        self.app = app
        self.base_url = ""
        self.client = httpx.Client()
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*program, "start", str(app), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=host_environment(**environment),
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    # --- coming and going --------------------------------------------------------------------------------------------

    def wait_until_ready(self) -> HostProcess:
        def ready() -> bool:
            printed = re.search(r"Listening on http://localhost:(\d+)", self.log)
            if printed is None:
                assert self.process.poll() is None, f"the host ended:\n{self.log}"
                return False
            self.base_url = f"http://127.0.0.1:{printed[1]}"
            try:
                return httpx.get(f"{self.base_url}/admin/host/status").json()["state"] == "Running"
            except httpx.TransportError:
                return False

        until(ready, lambda: f"the host did not become ready:\n{self.log}")
        self.client.close()
        self.client = httpx.Client(base_url=self.base_url, timeout=PATIENCE_SECONDS)
        return self

    def wait_for_log(self, text: str) -> None:
        until(lambda: text in self.log, lambda: f"{text!r} did not come:\n{self.log}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait_for_exit(self) -> int:
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the host did not end:\n{self.log}")

    def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait_for_exit()

    def kill(self) -> None:
        """As a power cut would: nothing of the process's own runs any more."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.kill()

    # --- instances ---------------------------------------------------------------------------------------------------

    def start(self, orchestrator: str, body: Any = None, instance_id: str = "") -> str:
        """Start an instance by the management API; its id."""
        path = f"{WEBHOOKS}/orchestrators/{orchestrator}" + (f"/{instance_id}" if instance_id else "")
        answer = self.client.post(path, json=body) if body is not None else self.client.post(path)
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request to the management API; `path` is relative to its base."""
        return self.client.request(method, f"{WEBHOOKS}{path}", **options)

    def status(self, instance_id: str, **query: Any) -> dict[str, Any]:
        return self.ask("GET", f"/instances/{instance_id}", params=query).json()

    def wait_for_status(self, instance_id: str, *statuses: str) -> dict[str, Any]:
        seen: dict[str, Any] = {}

        def reached() -> bool:
            answer = self.ask("GET", f"/instances/{instance_id}")
            if answer.status_code == 404:
                return False
            seen.update(answer.json())
            return seen["runtimeStatus"] in statuses

        until(reached, lambda: f"{instance_id} is {seen}, not one of {statuses}:\n{self.log}")
        return seen

    def wait_for_end(self, instance_id: str) -> dict[str, Any]:
        return self.wait_for_status(instance_id, "Completed", "Failed", "Terminated")


StartHost = Callable[..., HostProcess]


@pytest.fixture
def start_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartHost]:
    """`start_host(app, *options, ready=True, **environment)`: a host, on a free port unless `options` say otherwise.

    All of them are gone when the test ends.
    """
    hosts: list[HostProcess] = []

    def start(app: Path, *options: str, ready: bool = True, **environment: str) -> HostProcess:
        log = tmp_path_factory.mktemp("host") / "host.log"
        port = () if "--port" in options or "PERDURE_PORT" in environment else ("--port", "0")
        host = HostProcess(app, log, (*port, *options), environment)
        hosts.append(host)
        return host.wait_until_ready() if ready else host

    yield start
    for host in hosts:
        host.close()
