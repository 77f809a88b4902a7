"""The life of `perdure start`: coming up, being told what is wrong, stopping, being killed, sharing a store."""

from __future__ import annotations

import platform
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from fix_host import HostProcess, StartHost, host_environment, until, write_app

from perdure import __version__

APP = """
    import logging
    import os
    import time
    import azure.functions as func
    import azure.durable_functions as df

    app = df.DFApp()


    def note(line):
        with open("ledger", "a") as ledger:
            ledger.write(line + "\\n")


    @app.orchestration_trigger(context_name="context")
    def Work(context):
        return (yield context.call_activity("work", context.get_input()))


    @app.activity_trigger(input_name="value")
    def work(value):
        logging.info("working on %s", value)
        note("begun")
        while not os.path.exists("gate"):
            time.sleep(0.005)
        note("ended")
        return value


    @app.route(route="hello")
    def hello(req: func.HttpRequest):
        return "hello"
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_app(tmp_path / "shop", APP)


def ledger(app: Path) -> list[str]:
    file = app / "ledger"
    return file.read_text().split() if file.exists() else []


def begin_work(host: HostProcess) -> str:
    """Start an instance and return its id once its activity runs."""
    instance_id = host.start("Work", "a thing")
    until(lambda: ledger(host.app) == ["begun"], lambda: f"the activity did not begin:\n{host.log}")
    return instance_id


def perdure(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perdure", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=host_environment(),
        check=False,
    )


# --- coming up -------------------------------------------------------------------------------------------------------


def test_the_console_shows_functions_urls_hub_store_and_the_log(app: Path, start_host: StartHost) -> None:
    host = start_host(app)
    port = host.base_url.rpartition(":")[2]
    assert f"\thello: http://localhost:{port}/api/hello\n" in host.log
    assert host.log.index("hello:") < host.log.index("\tWork: orchestrationTrigger\n")
    assert "\twork: activityTrigger\n" in host.log
    for line in (f"Perdure {__version__}", f"App:   {app}", "Hub:   shop", "Store: sqlite:///.perdure/hub.db"):
        assert line in host.log
    (app / "gate").touch()
    host.wait_for_end(host.start("Work", "a thing"))
    assert host.log.count("working on a thing") == 1
    assert "uvicorn" not in host.log.lower()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of another kind")
def test_the_default_store_is_for_its_owner_only(app: Path, start_host: StartHost) -> None:
    (app / "gate").touch()
    host = start_host(app)
    host.wait_for_end(host.start("Work"))
    folder = app / ".perdure"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert {".gitignore", "hub.db"} <= {file.name for file in files}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert (folder / ".gitignore").read_text() == "*\n"


def test_settings_come_from_local_settings_and_names_in_percent_signs_are_resolved(
    app: Path, start_host: StartHost
) -> None:
    write_app(
        app,
        APP
        + """
    @app.route(route="setting")
    def setting(req):
        return os.environ["GREETING"] + os.environ["WEBSITE_HOSTNAME"]
    """,
        host__json='{"version": "2.0", /* mine */ "extensions": {"durableTask": {"hubName": "%HUB%"}}}',
        local__settings__json='{"IsEncrypted": false, "Values": {"HUB": "Orders", "GREETING": "from the file "}}',
    )
    host = start_host(app)
    assert "Hub:   Orders" in host.log
    port = host.base_url.rpartition(":")[2]
    assert host.client.get("/api/setting").text == f"from the file localhost:{port}"


def test_an_unresolved_name_of_the_hub_is_told(app: Path, start_host: StartHost) -> None:
    write_app(app, APP, host__json='{"version": "2.0", "extensions": {"durableTask": {"hubName": "%HUB%"}}}')
    host = start_host(app, ready=False)
    assert host.wait_for_exit() == 1
    assert "'%HUB%' does not resolve to a value." in host.log


def test_perdure_variables_set_what_the_command_line_does_not(app: Path, start_host: StartHost) -> None:
    host = start_host(app, PERDURE_STORE="memory://", PERDURE_PORT="0")
    assert "Store: memory://" in host.log
    assert not (app / ".perdure").exists()


def test_the_app_is_by_default_the_current_folder(app: Path) -> None:
    (app / "function_app.py").write_text("raise ValueError('this one')\n")
    assert perdure("start", cwd=app).stderr.startswith(f"{app / 'function_app.py'}:1: ValueError: this one")


def test_the_version_is_told(tmp_path: Path) -> None:
    assert perdure("--version", cwd=tmp_path).stdout == f"perdure, version {__version__}\n"


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_an_error_in_the_app_shows_its_line_first_and_no_frame_of_ours(app: Path, start_host: StartHost) -> None:
    (app / "function_app.py").write_text("import azure.functions as func\n\napp = func.FunctionApp(\n")
    host = start_host(app, ready=False)
    assert host.wait_for_exit() == 1
    assert host.log.startswith(f"{app / 'function_app.py'}:3: SyntaxError: '(' was never closed\n")
    assert "perdure/" not in host.log


def test_a_port_in_use_is_told(app: Path, start_host: StartHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        host = start_host(app, "--port", str(port), ready=False)
        assert host.wait_for_exit() == 1
    assert host.log.startswith(f"Port {port} on 127.0.0.1 is in use by another program.")


def test_an_address_that_others_can_reach_is_refused(app: Path, start_host: StartHost) -> None:
    host = start_host(app, "--host", "0.0.0.0", ready=False)
    assert host.wait_for_exit() == 1
    assert "--insecure" in host.log
    assert start_host(app, "--host", "0.0.0.0", "--insecure").client.get("/api/hello").text == "hello"


def test_a_store_url_that_is_none_is_told(app: Path, start_host: StartHost) -> None:
    host = start_host(app, "--store", "postgresql://owner:secret@nowhere/db", ready=False)
    assert host.wait_for_exit() == 1
    assert "'postgresql:'" in host.log
    assert "secret" not in host.log
    assert "Correct --store" in host.log


def test_a_folder_that_is_no_app_is_told_and_gets_no_store(tmp_path: Path, start_host: StartHost) -> None:
    host = start_host(tmp_path, ready=False)
    assert host.wait_for_exit() == 1
    assert f"{tmp_path} has no function_app.py" in host.log
    assert not (tmp_path / ".perdure").exists()


def test_a_file_that_is_no_store_is_told(app: Path, start_host: StartHost) -> None:
    (app / "notes.db").write_text("these are my notes, and no database " * 100)
    host = start_host(app, "--store", "sqlite:///notes.db", ready=False)
    assert host.wait_for_exit() == 1
    assert "notes.db" in host.log
    assert "Traceback" not in host.log


def test_wrong_usage_has_an_exit_code_of_its_own(app: Path) -> None:
    assert perdure("start", "--port", "many", cwd=app).returncode == 2


# --- one store, two processes ----------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_holds_the_store(app: Path, start_host: StartHost) -> None:
    first = start_host(app)
    second = start_host(app, ready=False)
    assert second.wait_for_exit() == 3
    assert f"Process {first.pid} on {platform.node()} serves {app / '.perdure' / 'hub.db'} since 20" in second.log
    assert first.client.get("/api/hello").text == "hello"


def test_a_second_process_can_wait_for_the_end_of_the_first_and_goes_on_with_its_work(
    app: Path, start_host: StartHost
) -> None:
    first = start_host(app)
    instance_id = begin_work(first)
    second = start_host(app, "--wait", ready=False)
    second.wait_for_log("Waiting for its end.")
    (app / "gate").touch()
    first.kill()
    second.wait_until_ready()
    assert second.wait_for_end(instance_id)["output"] == "a thing"


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process there")
def test_a_process_that_waits_ends_at_the_first_signal(app: Path, start_host: StartHost) -> None:
    start_host(app)
    second = start_host(app, "--wait", ready=False)
    second.wait_for_log("Waiting for its end.")
    second.signal(signal.SIGINT)
    assert second.wait_for_exit() == 130


# --- stopping --------------------------------------------------------------------------------------------------------


def test_a_host_with_nothing_to_do_stops_at_once_with_0(app: Path, start_host: StartHost) -> None:
    assert start_host(app).stop() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process there")
def test_running_activities_may_end_while_nothing_new_is_taken(app: Path, start_host: StartHost) -> None:
    host = start_host(app)
    instance_id = begin_work(host)
    host.signal(signal.SIGTERM)
    host.wait_for_log("Stopping.")
    until(lambda: host.client.get("/admin/host/status").json()["state"] == "Stopping", lambda: host.log)
    assert host.ask("POST", "/orchestrators/Work").status_code == 503
    assert host.client.get("/api/hello").status_code == 503
    assert host.ask("GET", f"/instances/{instance_id}").status_code == 202
    (app / "gate").touch()
    assert host.wait_for_exit() == 0
    again = start_host(app)
    assert again.wait_for_end(instance_id)["output"] == "a thing"
    assert ledger(app) == ["begun", "ended"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process there")
def test_a_running_function_may_end_too(app: Path, start_host: StartHost) -> None:
    write_app(app, APP + "\n    @app.route(route='slow')\n    def slow(req):\n        return work('slowly')\n")
    host = start_host(app)
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{host.base_url}/api/slow", timeout=60).text))
    asking.start()
    until(lambda: ledger(app) == ["begun"], lambda: host.log)
    host.signal(signal.SIGTERM)
    host.wait_for_log("Stopping.")
    (app / "gate").touch()
    assert host.wait_for_exit() == 0
    asking.join()
    assert answers == ["slowly"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process there")
def test_what_does_not_end_in_the_grace_time_runs_again_at_the_next_start(app: Path, start_host: StartHost) -> None:
    host = start_host(app, "--grace", "0")
    instance_id = begin_work(host)
    assert host.stop() == 0
    (app / "gate").touch()
    again = start_host(app)
    assert again.wait_for_end(instance_id)["output"] == "a thing"
    assert ledger(app) == ["begun", "begun", "ended"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process there")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_at_once(app: Path, start_host: StartHost, number: int, code: int) -> None:
    host = start_host(app)
    begin_work(host)
    host.signal(number)
    host.wait_for_log("Stopping.")
    host.signal(number)
    assert host.wait_for_exit() == code


def test_a_killed_host_loses_nothing(app: Path, start_host: StartHost) -> None:
    host = start_host(app)
    instance_id = begin_work(host)
    host.kill()
    (app / "gate").touch()
    again = start_host(app)
    assert again.wait_for_end(instance_id)["output"] == "a thing"
    assert ledger(app) == ["begun", "begun", "ended"]


# --- functions -------------------------------------------------------------------------------------------------------


def test_an_exception_of_a_function_is_logged_from_the_users_frame_on(app: Path, start_host: StartHost) -> None:
    write_app(app, APP + "\n    @app.route(route='fail')\n    def fail(req):\n        raise ValueError('my mistake')\n")
    host = start_host(app)
    answer = host.client.get("/api/fail")
    assert (answer.status_code, answer.content) == (500, b"")
    host.wait_for_log("ValueError: my mistake")
    frames = [line for line in host.log.splitlines() if line.startswith('  File "')]
    assert len(frames) == 1
    assert str(app / "function_app.py") in frames[0]


def test_async_functions_and_activities_share_one_event_loop(app: Path, start_host: StartHost) -> None:
    write_app(
        app,
        APP
        + """
    import asyncio

    loops = []

    @app.activity_trigger(input_name="value")
    async def on_loop(value):
        loops.append(asyncio.get_running_loop())
        return len(loops)

    @app.orchestration_trigger(context_name="context")
    def OnLoop(context):
        return (yield context.call_activity("on_loop"))

    @app.route(route="loop")
    @app.durable_client_input(client_name="client")
    async def loop(req: func.HttpRequest, client):
        loops.append(asyncio.get_running_loop())
        instance_id = await client.start_new("OnLoop")
        await client.wait_for_completion_or_create_check_status_response(req, instance_id)
        return str(len(set(loops)))
    """,
    )
    assert start_host(app).client.get("/api/loop").text == "1"


def test_an_activity_is_given_a_durable_client_and_its_context(app: Path, start_host: StartHost) -> None:
    write_app(
        app,
        APP
        + """
    @app.activity_trigger(input_name="value")
    @app.durable_client_input(client_name="client")
    async def look(value, client, context):
        status = await client.get_status(value)
        return [status.runtime_status.value, context.function_name]

    @app.orchestration_trigger(context_name="context")
    def Look(context):
        return (yield context.call_activity("look", context.instance_id))
    """,
    )
    host = start_host(app)
    assert host.wait_for_end(host.start("Look"))["output"] == ["Running", "look"]
