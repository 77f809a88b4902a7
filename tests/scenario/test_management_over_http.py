"""Every endpoint of the management API over real HTTP, its happy path and its documented errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fix_host import WEBHOOKS, HostProcess, StartHost, write_app

APP = """
    import datetime
    import azure.functions as func
    import azure.durable_functions as df

    app = df.DFApp()


    @app.orchestration_trigger(context_name="context")
    def Echo(context):
        answer = yield context.call_activity("echo", context.get_input())
        return answer


    @app.activity_trigger(input_name="value")
    def echo(value):
        return value


    @app.orchestration_trigger(context_name="context")
    def Fail(context):
        yield context.call_activity("boom")


    @app.activity_trigger(input_name="value")
    def boom(value):
        raise ValueError("boom")


    @app.orchestration_trigger(context_name="context")
    def Approval(context):
        context.set_custom_status({"waits": True})
        answers = []
        for _ in range(context.get_input() or 1):
            answers.append((yield context.wait_for_external_event("approve")))
        return answers


    @app.orchestration_trigger(context_name="context")
    def Sleep(context):
        yield context.create_timer(context.current_utc_datetime + datetime.timedelta(days=30))


    @app.orchestration_trigger(context_name="context")
    def Parent(context):
        return (yield context.call_sub_orchestrator("Echo", context.get_input(), "the-child"))


    @app.route(route="starts/{name}")
    @app.durable_client_input(client_name="client")
    async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient):
        instance_id = await client.start_new(req.route_params["name"], None, 7)
        return await client.wait_for_completion_or_create_check_status_response(req, instance_id, 5000, 100)
"""


@pytest.fixture
def host(tmp_path: Path, start_host: StartHost) -> HostProcess:
    return start_host(write_app(tmp_path / "shop", APP), "--store", "memory://")


# --- start and status ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ['"Tokyo"', '{"b":[1,null],"a":"\\u00e9"}', "123456789012345678901234567890", "0.1", "true", "[]"]
)
def test_an_input_of_any_type_comes_back(host: HostProcess, text: str) -> None:
    started = host.ask("POST", "/orchestrators/echo", content=text.encode())
    assert started.status_code == 202
    ended = host.wait_for_end(started.json()["id"])
    assert (ended["name"], ended["input"], ended["output"]) == ("echo", json.loads(text), json.loads(text))


def test_an_empty_body_is_no_input(host: HostProcess) -> None:
    ended = host.wait_for_end(host.start("Echo"))
    assert (ended["input"], ended["output"]) == (None, None)


def test_the_links_of_a_start_lead_where_they_say(host: HostProcess) -> None:
    links = host.ask("POST", "/orchestrators/Approval/order 42").json()
    client = host.client
    assert links["id"] == "order 42"
    host.wait_for_status("order 42", "Running")
    assert client.get(links["statusQueryGetUri"]).status_code == 202
    assert client.post(links["suspendPostUri"].replace("{text}", "tea")).status_code == 202
    host.wait_for_status("order 42", "Suspended")
    assert client.post(links["resumePostUri"].replace("{text}", "back")).status_code == 202
    host.wait_for_status("order 42", "Running")
    assert client.post(links["sendEventPostUri"].replace("{eventName}", "Approve"), json={"ok": 1}).status_code == 202
    ended = host.wait_for_end("order 42")
    assert (ended["runtimeStatus"], ended["output"]) == ("Completed", [{"ok": 1}])
    assert client.post(links["terminatePostUri"]).status_code == 410
    assert client.delete(links["purgeHistoryDeleteUri"]).json() == {"instancesDeleted": 1}
    assert client.get(links["statusQueryGetUri"]).status_code == 404


def test_an_unknown_orchestrator_is_refused_with_those_that_are_known(host: HostProcess) -> None:
    answer = host.ask("POST", "/orchestrators/Nobody")
    assert answer.status_code == 400
    assert answer.json()["ExceptionMessage"] == (
        "The function 'Nobody' doesn't exist, is disabled, or is not an orchestrator function. Additional info: "
        "The following are the known orchestrator functions: 'Approval', 'Echo', 'Fail', 'Parent', 'Sleep'."
    )


@pytest.mark.parametrize("instance_id", ["@entity@key", "a%2Fb", "a%23b", "a%3Fb", "a%5Cb", "a%0Ab", "x" * 257])
def test_an_id_that_is_not_allowed_is_refused(host: HostProcess, instance_id: str) -> None:
    assert host.ask("POST", f"/orchestrators/Echo/{instance_id}").status_code == 400
    assert host.ask("GET", "/instances").json() == []


def test_an_id_may_be_used_again_only_after_its_end(host: HostProcess) -> None:
    host.start("Approval", instance_id="one")
    host.wait_for_status("one", "Running")
    answer = host.ask("POST", "/orchestrators/Echo/one")
    assert answer.status_code == 500
    assert answer.json()["ExceptionMessage"] == ("An Orchestration instance with the status Running already exists.")
    host.ask("POST", "/instances/one/raiseEvent/approve", json=1)
    host.wait_for_end("one")
    host.start("Echo", 5, "one")
    assert host.wait_for_end("one")["output"] == 5


def test_a_start_can_wait_for_the_output(host: HostProcess) -> None:
    answer = host.ask("POST", "/orchestrators/Echo?timeout=50&pollingInterval=1", json=[1])
    assert (answer.status_code, answer.json()) == (200, [1])
    answer = host.ask("POST", "/orchestrators/Sleep?timeout=0.01&pollingInterval=0.01")
    assert answer.status_code == 202


def test_a_failed_instance_tells_why(host: HostProcess) -> None:
    instance_id = host.start("Fail")
    ended = host.wait_for_end(instance_id)
    assert ended["runtimeStatus"] == "Failed"
    assert ended["output"].startswith(
        "Orchestrator function 'Fail' failed: Activity function 'boom' failed:  ValueError: boom"
    )
    query = {"returnInternalServerErrorOnFailure": "true"}
    assert host.ask("GET", f"/instances/{instance_id}", params=query).status_code == 500


def test_the_status_shows_custom_status_and_input_as_asked(host: HostProcess) -> None:
    instance_id = host.start("Approval", 1)
    host.wait_for_status(instance_id, "Running")
    assert host.status(instance_id)["customStatus"] == {"waits": True}
    assert (host.status(instance_id)["input"], host.status(instance_id, showInput="false")["input"]) == (1, None)


def test_the_history_tells_what_happened(host: HostProcess) -> None:
    instance_id = host.start("Parent", "x")
    host.wait_for_end(instance_id)
    shown = host.status(instance_id, showHistory="true", showHistoryOutput="true")["historyEvents"]
    assert [(event["EventType"], event.get("FunctionName"), event.get("Result")) for event in shown] == [
        ("ExecutionStarted", "Parent", None),
        ("SubOrchestrationInstanceCompleted", "Echo", "x"),
        ("ExecutionCompleted", None, "x"),
    ]
    assert host.status("the-child")["output"] == "x"


def test_an_unknown_instance_is_404_everywhere(host: HostProcess) -> None:
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "", {}),
        ("DELETE", "", {}),
        ("POST", "/raiseEvent/x", {"json": 1}),
        ("POST", "/terminate", {}),
        ("POST", "/suspend", {}),
        ("POST", "/resume", {}),
    ]
    for method, path, options in requests:
        answer = host.ask(method, f"/instances/nobody{path}", **options)
        assert (answer.status_code, answer.content) == (404, b""), path


# --- list ------------------------------------------------------------------------------------------------------------


def test_instances_are_listed_page_by_page_with_conditions(host: HostProcess) -> None:
    for number in range(5):
        host.start("Echo", number, f"echo-{number}")
    host.start("Approval", instance_id="waits")
    for number in range(5):
        host.wait_for_end(f"echo-{number}")
    host.wait_for_status("waits", "Running")
    seen: list[str] = []
    headers: dict[str, str] = {}
    while True:
        page = host.ask("GET", "/instances?top=2&instanceIdPrefix=echo-", headers=headers)
        seen += [row["instanceId"] for row in page.json()]
        token = page.headers.get("x-ms-continuation-token")
        if not token:
            break
        headers = {"x-ms-continuation-token": token}
    assert seen == [f"echo-{number}" for number in range(5)]
    running = host.ask("GET", "/instances?runtimeStatus=Running,Suspended&showInput=false").json()
    assert [row["instanceId"] for row in running] == ["waits"]
    assert host.ask("GET", "/instances?createdTimeTo=2001-01-01").json() == []
    assert len(host.ask("GET", "/instances?createdTimeFrom=2001-01-01").json()) == 6


# --- events ----------------------------------------------------------------------------------------------------------


def test_events_are_taken_early_in_order_and_without_regard_to_case(host: HostProcess) -> None:
    instance_id = host.start("Approval", 3)
    for value in ("1", '"two"', "null"):
        answer = host.ask(
            "POST",
            f"/instances/{instance_id}/raiseEvent/APPROVE",
            content=value,
            headers={"content-type": "application/json"},
        )
        assert (answer.status_code, answer.content) == (202, b"")
    assert host.wait_for_end(instance_id)["output"] == [1, "two", None]


def test_an_event_must_be_json_for_an_instance_that_has_not_ended(host: HostProcess) -> None:
    instance_id = host.start("Approval")
    path = f"/instances/{instance_id}/raiseEvent/approve"
    assert host.ask("POST", path).json() == {"Message": "Only application/json request content is supported"}
    broken = host.ask("POST", path, content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["Message"]) == (400, "Invalid JSON content")
    host.ask("POST", path, json=1)
    host.wait_for_end(instance_id)
    assert host.ask("POST", path, json=1).status_code == 410


# --- steering --------------------------------------------------------------------------------------------------------


def test_a_terminated_instance_has_the_reason_as_its_output(host: HostProcess) -> None:
    instance_id = host.start("Sleep")
    answer = host.ask("POST", f"/instances/{instance_id}/terminate", params={"reason": "not needed & done"})
    assert (answer.status_code, answer.content) == (202, b"")
    ended = host.wait_for_end(instance_id)
    assert (ended["runtimeStatus"], ended["output"]) == ("Terminated", "not needed & done")
    assert host.ask("POST", f"/instances/{instance_id}/terminate").status_code == 410


def test_a_suspended_instance_keeps_its_events_until_it_is_resumed(host: HostProcess) -> None:
    instance_id = host.start("Approval")
    host.wait_for_status(instance_id, "Running")
    assert host.ask("POST", f"/instances/{instance_id}/resume").status_code == 500
    assert host.ask("POST", f"/instances/{instance_id}/suspend?reason=tea").status_code == 202
    host.wait_for_status(instance_id, "Suspended")
    again = host.ask("POST", f"/instances/{instance_id}/suspend")
    assert again.status_code == 500
    assert again.json()["ExceptionMessage"] == (
        f"Cannot suspend the orchestration instance {instance_id} because instance is in the Suspended state."
    )
    assert host.ask("POST", f"/instances/{instance_id}/raiseEvent/approve", json="ok").status_code == 202
    assert host.status(instance_id)["runtimeStatus"] == "Suspended"
    assert host.ask("POST", f"/instances/{instance_id}/resume").status_code == 202
    assert host.wait_for_end(instance_id)["output"] == ["ok"]
    assert host.ask("POST", f"/instances/{instance_id}/suspend").status_code == 410
    assert host.ask("POST", f"/instances/{instance_id}/resume").status_code == 410


def test_a_suspended_instance_can_be_terminated(host: HostProcess) -> None:
    instance_id = host.start("Approval")
    host.wait_for_status(instance_id, "Running")
    host.ask("POST", f"/instances/{instance_id}/suspend")
    host.wait_for_status(instance_id, "Suspended")
    host.ask("POST", f"/instances/{instance_id}/terminate?reason=enough")
    assert host.wait_for_end(instance_id)["output"] == "enough"


def test_only_what_has_ended_is_purged(host: HostProcess) -> None:
    instance_id = host.start("Approval")
    host.wait_for_status(instance_id, "Running")
    assert host.ask("DELETE", f"/instances/{instance_id}").status_code == 409
    host.ask("POST", f"/instances/{instance_id}/raiseEvent/approve", json=1)
    host.wait_for_end(instance_id)
    answer = host.ask("DELETE", f"/instances/{instance_id}")
    assert (answer.status_code, answer.json()) == (200, {"instancesDeleted": 1})
    assert host.ask("DELETE", f"/instances/{instance_id}").status_code == 404


# --- everywhere ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/instances/x"),
        ("GET", "/orchestrators/Echo"),
        ("GET", "/"),
        ("POST", "/instances/x/rewind"),
        ("DELETE", "/instances"),
    ],
)
def test_what_is_not_served_is_404(host: HostProcess, method: str, path: str) -> None:
    assert host.ask(method, path).status_code == 404


def test_a_function_can_wait_for_the_end_by_its_client(host: HostProcess) -> None:
    done = host.client.get("/api/starts/Echo")
    assert (done.status_code, done.json()) == (200, 7)
    failed = host.client.get("/api/starts/Fail")
    assert (failed.status_code, failed.json()["runtimeStatus"]) == (500, "Failed")


def test_many_requests_share_one_connection(host: HostProcess) -> None:
    ids = [host.start("Echo", number) for number in range(50)]
    assert [host.wait_for_end(instance_id)["output"] for instance_id in ids] == list(range(50))


def test_a_body_above_the_limit_is_refused_and_the_host_serves_on(host: HostProcess) -> None:
    megabyte = b" " * 1_000_000

    def body() -> Any:
        for _ in range(106):
            yield megabyte

    assert host.client.post(f"{WEBHOOKS}/orchestrators/Echo", content=body()).status_code == 413
    assert host.client.get("/admin/host/ping").status_code == 200
