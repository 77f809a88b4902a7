"""The management API over ASGI, in front of a task hub that is set to what a test needs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fake_hub import FakeHub, make_row

from perdure.core.codec import encode_failure
from perdure.core.errors import (
    HostStopping,
    InstanceEnded,
    InstanceExists,
    InvalidRequest,
    Overloaded,
    StoreUnavailable,
    UnknownFunction,
    WrongStatus,
)
from perdure.core.events import ExecutionStarted, Failure, TurnRecord
from perdure.core.protocols import InstanceQuery, StartRequest
from perdure.host.asgi import Receive, Request, Scope, Send
from perdure.host.management import ManagementApi

BASE = "http://host.example:1234/runtime/webhooks/durabletask"
JSON = {"content-type": "application/json"}
ID = "0123456789abcdef0123456789abcdef"

Call = Callable[..., httpx.Response]


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def call(hub: FakeHub) -> Call:
    """Send one request, `path` relative to the base."""
    api = ManagementApi(hub)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await (await api.respond(request, request.segments[3:])).send(send)

    def send(method: str, path: str, **options: Any) -> httpx.Response:
        async def exchange() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
                return await client.request(method, f"{BASE}{path}", **options)

        return asyncio.run(exchange())

    return send


# --- start -----------------------------------------------------------------------------------------------------------


def test_a_start_answers_with_links_to_manage_the_instance(hub: FakeHub, call: Call) -> None:
    answer = call("POST", "/orchestrators/Hello", content=b'{"city": "Tokyo"}')
    assert answer.status_code == 202
    query = "taskHub=Shop&connection=Storage"
    instance = f"{BASE}/instances/{ID}"
    assert list(answer.json().items()) == [
        ("id", ID),
        ("statusQueryGetUri", f"{instance}?{query}"),
        ("sendEventPostUri", f"{instance}/raiseEvent/{{eventName}}?{query}"),
        ("terminatePostUri", f"{instance}/terminate?reason={{text}}&{query}"),
        ("purgeHistoryDeleteUri", f"{instance}?{query}"),
        ("restartPostUri", f"{instance}/restart?{query}"),
        ("suspendPostUri", f"{instance}/suspend?reason={{text}}&{query}"),
        ("resumePostUri", f"{instance}/resume?reason={{text}}&{query}"),
    ]
    assert answer.headers["location"] == f"{instance}?{query}"
    assert answer.headers["retry-after"] == "10"
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert hub.told == [("start", StartRequest(name="Hello", input='{"city": "Tokyo"}'))]


def test_a_start_takes_an_id_and_a_version(hub: FakeHub, call: Call) -> None:
    answer = call("POST", "/orchestrators/Hello/order%2042?version=2.0")
    assert answer.json()["id"] == "order 42"
    assert answer.json()["statusQueryGetUri"].startswith(f"{BASE}/instances/order%2042?")
    assert hub.told == [("start", StartRequest(name="Hello", instance_id="order 42", version="2.0"))]


@pytest.mark.parametrize("body", [b"{", b"\xff", b"Tokyo"])
def test_a_start_with_a_body_that_is_not_json_is_refused(hub: FakeHub, call: Call, body: bytes) -> None:
    answer = call("POST", "/orchestrators/Hello", content=body)
    assert (answer.status_code, answer.json()["Message"]) == (400, "Invalid JSON content")
    assert hub.told == []


@pytest.mark.parametrize("number", ["12345678901234567890123456789", "NaN", "0.1000000000000000055511151231257827"])
def test_the_input_of_a_start_is_passed_on_as_it_is(hub: FakeHub, call: Call, number: str) -> None:
    call("POST", "/orchestrators/Hello", content=f"[{number}]".encode())
    assert hub.told == [("start", StartRequest(name="Hello", input=f"[{number}]"))]


@pytest.mark.parametrize("error", [UnknownFunction("The function 'X' doesn't exist"), InvalidRequest("bad id")])
def test_a_start_that_is_not_allowed_is_a_bad_argument(hub: FakeHub, call: Call, error: Exception) -> None:
    hub.refusal = error
    answer = call("POST", "/orchestrators/X")
    assert answer.status_code == 400
    assert answer.json() == {
        "Message": "One or more of the arguments submitted is incorrect",
        "ExceptionMessage": str(error),
        "ExceptionType": "System.ArgumentException",
        "StackTrace": None,
    }


def test_a_start_of_a_running_instance_is_a_server_error(hub: FakeHub, call: Call) -> None:
    hub.refusal = InstanceExists("Running")
    answer = call("POST", "/orchestrators/X/i1")
    assert answer.status_code == 500
    assert answer.json() == {
        "Message": "Something went wrong while processing your request",
        "ExceptionMessage": "An Orchestration instance with the status Running already exists.",
        "ExceptionType": "DurableTask.Core.Exceptions.OrchestrationAlreadyExistsException",
        "StackTrace": None,
    }


def test_a_start_waits_for_the_output_if_both_times_are_given(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1", status="Completed", output='["Hello"]'))
    answer = call("POST", "/orchestrators/Hello/i1?timeout=2.5&pollingInterval=1")
    assert (answer.status_code, answer.text) == (200, '["Hello"]')
    assert hub.told[-1] == ("wait", "i1", 2.5)


@pytest.mark.parametrize(
    "query", ["timeout=5", "pollingInterval=1", "timeout=x&pollingInterval=1", "timeout=5&pollingInterval=inf"]
)
def test_a_start_does_not_wait_if_one_time_is_missing(hub: FakeHub, call: Call, query: str) -> None:
    assert call("POST", f"/orchestrators/Hello?{query}").status_code == 202
    assert [told[0] for told in hub.told] == ["start"]


def test_a_start_that_waited_in_vain_answers_with_links(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1"))
    answer = call("POST", "/orchestrators/Hello/i1?timeout=1&pollingInterval=0.1")
    assert (answer.status_code, answer.json()["id"]) == (202, "i1")


def test_a_start_that_fails_while_waited_for_answers_with_its_status(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1", status="Terminated", output='"enough"'))
    answer = call("POST", "/orchestrators/Hello/i1?timeout=1&pollingInterval=1")
    assert (answer.status_code, answer.json()["runtimeStatus"]) == (200, "Terminated")


def test_a_start_must_not_wait_for_less_than_its_interval(hub: FakeHub, call: Call) -> None:
    answer = call("POST", "/orchestrators/Hello?timeout=1&pollingInterval=2")
    assert answer.status_code == 400
    assert answer.json()["ExceptionMessage"] == "Total timeout 1 should be bigger than retry timeout 2"
    assert hub.told == []


# --- status ----------------------------------------------------------------------------------------------------------


def test_the_status_has_the_documented_keys_in_order(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1", status="Completed", input='{"n":1}', output='["a"]', custom_status='"half"'))
    answer = call("GET", "/instances/i1")
    assert answer.status_code == 200
    assert list(answer.json().items()) == [
        ("name", "Orchestrate"),
        ("instanceId", "i1"),
        ("runtimeStatus", "Completed"),
        ("input", {"n": 1}),
        ("customStatus", "half"),
        ("output", ["a"]),
        ("createdTime", "2024-05-01T12:00:00Z"),
        ("lastUpdatedTime", "2024-05-01T12:00:05Z"),
    ]


@pytest.mark.parametrize("status", ["Pending", "Running", "Suspended"])
def test_the_status_of_what_has_not_ended_is_202_with_where_to_ask_again(hub: FakeHub, call: Call, status: str) -> None:
    hub.add(make_row("i1", status=status))
    answer = call("GET", "/instances/i1?taskHub=Shop&x=y%20z")
    assert (answer.status_code, answer.json()["runtimeStatus"], answer.json()["output"]) == (202, status, None)
    assert answer.headers["location"] == f"{BASE}/instances/i1?taskHub=Shop&x=y%20z"
    assert answer.headers["retry-after"] == "5"


FAILED = encode_failure(Failure(type="ValueError", message="boom", kind="orchestrator", function="Orchestrate"))


@pytest.mark.parametrize(
    ("query", "code"),
    [("", 200), ("?returnInternalServerErrorOnFailure=true", 500), ("?RETURNinternalservererroronfailure=True", 500)],
)
def test_a_failed_instance_shows_its_reason(hub: FakeHub, call: Call, query: str, code: int) -> None:
    hub.add(make_row("i1", status="Failed", failure=FAILED))
    answer = call("GET", f"/instances/i1{query}")
    assert (answer.status_code, answer.json()["output"]) == (code, "Orchestrator function 'Orchestrate' failed: boom")


@pytest.mark.parametrize(("reason", "output"), [('"12"', "12"), (None, None)])
def test_a_terminated_instance_shows_why(hub: FakeHub, call: Call, reason: str | None, output: Any) -> None:
    hub.add(make_row("i1", status="Terminated", output=reason))
    assert call("GET", "/instances/i1").json()["output"] == output


def test_an_unknown_instance_is_an_empty_404(call: Call) -> None:
    answer = call("GET", "/instances/nobody")
    assert (answer.status_code, answer.content) == (404, b"")


def test_the_input_is_left_out_on_request(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1", input="1"))
    assert call("GET", "/instances/i1?showInput=FALSE").json()["input"] is None


def test_only_a_parked_instance_has_a_parked_reason(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1"), make_row("i2", key=2, parked="its code is gone"))
    assert "parkedReason" not in call("GET", "/instances/i1").json()
    assert call("GET", "/instances/i2").json()["parkedReason"] == "its code is gone"


def test_the_history_is_shown_on_request_and_never_of_a_pending_instance(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1"), make_row("i2", key=2, status="Pending"))
    hub.records = [
        TurnRecord(at=0, received=[ExecutionStarted(name="Orchestrate", instance_id="i1", execution_id="e")])
    ]
    assert "historyEvents" not in call("GET", "/instances/i1").json()
    (event,) = call("GET", "/instances/i1?showHistory=true").json()["historyEvents"]
    assert (event["EventType"], event["FunctionName"]) == ("ExecutionStarted", "Orchestrate")
    assert "historyEvents" not in call("GET", "/instances/i2?showHistory=true").json()


# --- list ------------------------------------------------------------------------------------------------------------


def test_a_list_passes_its_conditions_on(hub: FakeHub, call: Call) -> None:
    call(
        "GET",
        "/instances?createdTimeFrom=2024-05-01T12:00:00Z&createdTimeTo=never&runtimeStatus=Running,Failed"
        "&runtimeStatus=Pending&instanceIdPrefix=a%2Bb&top=7",
    )
    assert hub.told == [
        (
            "query",
            InstanceQuery(
                created_from=1_714_564_800_000_000,
                created_to=None,
                statuses=("Running", "Failed", "Pending"),
                id_prefix="a+b",
                limit=8,
            ),
        )
    ]


def test_a_list_goes_on_page_by_page_until_there_is_no_token(hub: FakeHub, call: Call) -> None:
    hub.add(*(make_row(f"i{key}", key=key) for key in range(1, 6)))
    seen: list[str] = []
    headers: dict[str, str] = {}
    while True:
        answer = call("GET", "/instances/?top=2", headers=headers)
        seen += [row["instanceId"] for row in answer.json()]
        if not answer.headers.get("x-ms-continuation-token"):
            break
        headers = {"x-ms-continuation-token": answer.headers["x-ms-continuation-token"]}
    assert seen == ["i1", "i2", "i3", "i4", "i5"]


def test_a_last_page_that_is_full_has_no_token(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1", key=1), make_row("i2", key=2))
    assert "x-ms-continuation-token" not in call("GET", "/instances?top=2").headers


@pytest.mark.parametrize(("top", "limit"), [("0", 101), ("-1", 101), ("many", 101), ("5000", 1001)])
def test_a_page_has_a_sensible_size_whatever_is_asked(hub: FakeHub, call: Call, top: str, limit: int) -> None:
    call("GET", f"/instances?top={top}")
    assert hub.told[0][1].limit == limit


@pytest.mark.parametrize("token", ["nonsense", "eDE=", "é".encode().hex()])
def test_a_token_that_was_never_given_out_is_refused(call: Call, token: str) -> None:
    assert call("GET", "/instances", headers={"x-ms-continuation-token": token}).status_code == 400


# --- events and steering ---------------------------------------------------------------------------------------------


def test_an_event_is_raised_with_its_json(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1"))
    answer = call("POST", "/instances/i1/raiseEvent/ok%20now", content=b'{"when": "2024-05-01"}', headers=JSON)
    assert (answer.status_code, answer.content) == (202, b"")
    assert hub.told == [("raise_event", "i1", "ok now", '{"when": "2024-05-01"}', "")]


def test_events_are_checked_in_the_documented_order(hub: FakeHub, call: Call) -> None:
    path = "/instances/i1/raiseEvent/go"
    assert call("POST", path, content=b"{").status_code == 404
    hub.add(make_row("i1", status="Completed"))
    assert call("POST", path, content=b"{").status_code == 410
    hub.add(make_row("i1"))
    answer = call("POST", path, content=b"{")
    assert answer.status_code == 400
    assert answer.json() == {"Message": "Only application/json request content is supported"}
    for body in (b"{", b""):
        answer = call("POST", path, content=body, headers=JSON)
        assert (answer.status_code, answer.json()["Message"]) == (400, "Invalid JSON content")
    assert (
        call("POST", path, content=b"null", headers={"content-type": "Application/JSON; charset=utf-8"}).status_code
        == 202
    )


@pytest.mark.parametrize("verb", ["terminate", "suspend", "resume"])
def test_steering_passes_the_reason_on(hub: FakeHub, call: Call, verb: str) -> None:
    hub.add(make_row("i1"), make_row("i2", key=2, status="Failed"))
    answer = call("POST", f"/instances/i1/{verb.upper()}?reason=a+b%26c")
    assert (answer.status_code, answer.content) == (202, b"")
    assert hub.told == [(verb, "i1", "a b&c")]
    assert call("POST", f"/instances/nobody/{verb}").status_code == 404
    assert call("POST", f"/instances/i2/{verb}").status_code == 410


def test_steering_that_does_not_fit_the_status_is_a_server_error(hub: FakeHub, call: Call) -> None:
    hub.refusal = WrongStatus("suspend", "i1", "Suspended")
    answer = call("POST", "/instances/i1/suspend")
    assert answer.status_code == 500
    assert answer.json()["ExceptionMessage"] == (
        "Cannot suspend the orchestration instance i1 because instance is in the Suspended state."
    )


def test_purging_deletes_only_what_has_ended(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1", status="Completed"), make_row("i2", key=2))
    answer = call("DELETE", "/instances/i1")
    assert (answer.status_code, answer.json()) == (200, {"instancesDeleted": 1})
    assert call("DELETE", "/instances/i2").status_code == 409
    assert call("DELETE", "/instances/nobody").status_code == 404


# --- everywhere ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/orchestrators/Hello"),
        ("PUT", "/instances/i1"),
        ("GET", "/instances/i1/terminate"),
        ("POST", "/instances/i1"),
        ("POST", "/instances/i1/raiseEvent"),
        ("POST", "/orchestrators/Hello/i1/more"),
        ("POST", "/instances/i1/explode"),
        ("GET", "/nothing"),
    ],
)
def test_unknown_paths_and_wrong_methods_are_an_empty_404(call: Call, method: str, path: str) -> None:
    answer = call(method, path)
    assert (answer.status_code, answer.content) == (404, b"")


def test_literal_words_are_compared_without_case_and_a_trailing_slash_is_ignored(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1"))
    assert call("GET", "/INSTANCES/i1/").status_code == 202
    assert call("GET", "/instances/I1").status_code == 404


def test_a_request_for_another_task_hub_is_refused(call: Call) -> None:
    assert call("GET", "/instances?taskHub=shop").status_code == 200
    answer = call("GET", "/instances?taskHub=Other")
    assert (answer.status_code, "'Other'" in answer.json()["ExceptionMessage"]) == (400, True)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Overloaded("busy"), 429),
        (HostStopping("stopping"), 503),
        (StoreUnavailable("disk"), 503),
        (InstanceEnded("i1", "Failed"), 410),
    ],
)
def test_refusals_of_the_hub_have_their_status_codes(hub: FakeHub, call: Call, error: Exception, status: int) -> None:
    hub.refusal = error
    answer = call("POST", "/orchestrators/Hello")
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) is (status == 429)


def test_a_body_is_valid_json_whatever_was_stored(hub: FakeHub, call: Call) -> None:
    hub.add(make_row("i1", status="Completed", input="NaN", output="\ud800", custom_status="123456789012345678901"))
    body = json.loads(call("GET", "/instances/i1").content)
    assert (body["input"], body["output"], body["customStatus"]) == ("NaN", "\ud800", 123456789012345678901)
