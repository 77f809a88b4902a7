"""Processes that activities fork off: they neither take part in what the host holds, nor in how it is stopped."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from fix_host import StartHost, until, write_app

APP = """
    import multiprocessing
    import time
    import azure.durable_functions as df

    app = df.DFApp()
    forking = multiprocessing.get_context("fork")


    def live_long(begun):
        begun.set()
        time.sleep(600)


    def fork():
        begun = forking.Event()
        child = forking.Process(target=live_long, args=(begun,))
        child.start()
        begun.wait()
        return child


    @app.orchestration_trigger(context_name="context")
    def run(context):
        yield context.call_activity("begin")
        yield context.wait_for_external_event("Go")
        return "done"


    @app.activity_trigger(input_name="nothing")
    def begin(nothing):
        child = fork()
        with open("children", "a") as children:
            children.write(f"{child.pid}\\n")


    @app.orchestration_trigger(context_name="context")
    def end_child(context):
        return (yield context.call_activity("begin_and_end"))


    @app.activity_trigger(input_name="nothing")
    def begin_and_end(nothing):
        child = fork()
        child.terminate()
        child.join(10)
        child.kill()
        return child.exitcode
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there")


def test_a_killed_host_frees_its_store_and_its_port_though_its_children_live(
    tmp_path: Path, start_host: StartHost
) -> None:
    app = write_app(tmp_path / "app", APP)
    host = start_host(app)
    instance_id = host.start("run")
    children = app / "children"
    until(children.exists, lambda: f"the activity did not begin:\n{host.log}")
    until(lambda: children.read_text().endswith("\n"), lambda: host.log)
    try:
        host.kill()
        again = start_host(app, "--port", host.base_url.rpartition(":")[2])
        assert again.ask("POST", f"/instances/{instance_id}/raiseEvent/Go", json=1).status_code == 202
        assert again.wait_for_end(instance_id)["output"] == "done"
    finally:
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGKILL)


def test_a_child_ends_when_its_activity_says_so(tmp_path: Path, start_host: StartHost) -> None:
    host = start_host(write_app(tmp_path / "app", APP))
    assert host.wait_for_end(host.start("end_child"))["output"] == -signal.SIGTERM
