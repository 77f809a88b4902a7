"""The client, over a task hub that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import traceback
import uuid
from collections.abc import Coroutine
from datetime import datetime, timedelta, timezone
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest
from azure.durable_functions.client import connect_client
from orchestration_driver import SECOND, START, boom

from perdure.core.codec import encode_failure
from perdure.core.errors import (
    CallerError,
    InstanceEnded,
    InstanceExists,
    InstanceNotFound,
    Overloaded,
    UnknownFunction,
    WrongStatus,
)
from perdure.core.events import Failure, TurnRecord
from perdure.core.protocols import InstanceQuery, StartRequest
from perdure.core.state import InstanceRow

BASE = "http://localhost:7071/runtime/webhooks/durabletask"
BINDING = json.dumps(
    {
        "taskHubName": "MyHub",
        "creationUrls": {"createNewInstancePostUri": f"{BASE}/orchestrators/{{functionName}}[/{{instanceId}}]?code=k"},
        "managementUrls": {
            "id": "INSTANCEID",
            "statusQueryGetUri": f"{BASE}/instances/INSTANCEID?taskHub=MyHub&code=k",
            "sendEventPostUri": f"{BASE}/instances/INSTANCEID/raiseEvent/{{eventName}}?taskHub=MyHub&code=k",
            "terminatePostUri": f"{BASE}/instances/INSTANCEID/terminate?reason={{text}}&taskHub=MyHub&code=k",
        },
        "rpcBaseUrl": "http://127.0.0.1:17071/durabletask/",
        "baseUrl": BASE,
    }
)


def row_of(status: Any = "Running", key: int = 1, **changes: Any) -> InstanceRow:
    fields: dict[str, Any] = {
        **dict.fromkeys(InstanceRow.__struct_fields__),
        "key": key,
        "partition": 0,
        "id": f"i{key}",
        "kind": "orchestration",
        "name": "orch",
        "status": status,
        "created_at": START,
        "updated_at": START + SECOND // 2,
        "input": '"Tokyo"',
    }
    return InstanceRow(**{**fields, **changes})


class ScriptedHub:
    """Notes what it is asked, and answers with `answer` or raises it."""

    name = "MyHub"

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def __getattr__(self, verb: str) -> Any:
        async def call(*arguments: Any, **keywords: Any) -> Any:
            self.asked.append((verb, *arguments, *keywords.values()))
            answer = self.answer.pop(0) if isinstance(self.answer, list) else self.answer
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def ask(call: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(call)


def client_of(hub: ScriptedHub, **keywords: Any) -> df.DurableOrchestrationClient:
    return connect_client(BINDING, hub, **keywords)  # pyright: ignore[reportArgumentType]


def request_to(url: str) -> func.HttpRequest:
    return func.HttpRequest("GET", url, body=b"")


# --- starting --------------------------------------------------------------------------------------------------------


def test_a_start_encodes_its_input_once_and_gives_the_id() -> None:
    hub = ScriptedHub("i1")

    assert ask(client_of(hub).start_new("orch", None, {"city": "Tokyo"}, "1.0")) == "i1"
    assert ask(client_of(hub).start_new("orch", "", None)) == "i1"
    assert hub.asked == [
        ("start", StartRequest("orch", None, '{"city": "Tokyo"}', "1.0")),
        ("start", StartRequest("orch")),
    ]


def test_an_unknown_function_is_refused_with_its_text() -> None:
    with pytest.raises(df.DurableClientError, match=r"^The function 'x' doesn't exist$") as caught:
        ask(client_of(ScriptedHub(UnknownFunction("The function 'x' doesn't exist"))).start_new("x"))
    assert isinstance(caught.value.error, UnknownFunction)
    assert "perdure.core.errors" not in "".join(traceback.format_exception(caught.value))


def test_an_id_in_use_is_refused_with_the_body_of_the_original() -> None:
    with pytest.raises(df.DurableClientError) as caught:
        ask(client_of(ScriptedHub(InstanceExists("Running"))).start_new("x", "i1"))

    (body,) = caught.value.args
    assert body["ExceptionMessage"] == "An Orchestration instance with the status Running already exists."


# --- arguments of a wrong type ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments", "text"),
    [
        ("start_new", ("o", {"a": 1}), "start_new: instance_id must be a str, not dict; did you mean client_input=?"),
        ("start_new", ("o", 5), "start_new: instance_id must be a str, not int; did you mean client_input=?"),
        (
            "start_new",
            ("o", uuid.UUID(int=1)),
            "start_new: instance_id must be a str, not UUID; write str(instance_id)",
        ),
        ("start_new", (5,), "start_new: orchestration_function_name must be a str, not int"),
        ("start_new", ("o", None, None, 1.0), "start_new: version must be a str, not float"),
        ("start_new", ("o", None, {1}), "start_new: client_input (set) cannot be serialized: "),
        ("raise_event", (5, "go"), "raise_event: instance_id must be a str, not int"),
        ("raise_event", ("i1", 5), "raise_event: event_name must be a str, not int"),
        ("raise_event", ("i1", "go", None, 5), "raise_event: task_hub_name must be a str, not int"),
        ("raise_event", ("i1", "go", b"x"), "raise_event: event_data (bytes) cannot be serialized: "),
        ("terminate", ("i1", {"a": 1}), "terminate: reason must be a str, not dict"),
        ("suspend", ("i1", 5), "suspend: reason must be a str, not int"),
        ("resume", (None, "x"), "resume: instance_id must be a str, not None"),
        ("purge_instance_history", (5,), "purge_instance_history: instance_id must be a str, not int"),
        ("get_status", (5,), "get_status: instance_id must be a str, not int"),
        (
            "wait_for_completion_or_create_check_status_response",
            (request_to("http://localhost"), 5),
            "wait_for_completion_or_create_check_status_response: instance_id must be a str, not int",
        ),
        ("get_status_by", ("yesterday",), "get_status_by: created_time_from must be a datetime, not str"),
        ("get_status_by", (None, 5), "get_status_by: created_time_to must be a datetime, not int"),
        ("get_status_by", (None, None, "Running"), "get_status_by: runtime_status must be a list of "),
        ("get_status_by", (None, None, df.OrchestrationRuntimeStatus.Failed), "get_status_by: runtime_status must be "),
        ("get_status_by", (None, None, 5), "get_status_by: runtime_status must be a list of "),
        ("get_status_by", (None, None, None, 5), "get_status_by: instance_id_prefix must be a str, not int"),
    ],
)
def test_an_argument_of_a_wrong_type_is_refused_before_anything_is_asked(
    method: str, arguments: Any, text: str
) -> None:
    hub = ScriptedHub()
    with pytest.raises(TypeError) as caught:
        ask(getattr(client_of(hub), method)(*arguments))

    assert str(caught.value).startswith(text)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("create_check_status_response", (request_to("http://localhost"), 5)),
        ("create_http_management_payload", (5,)),
        ("get_client_response_links", (None, 5)),
    ],
)
def test_links_need_an_id_that_is_text(method: str, arguments: Any) -> None:
    with pytest.raises(TypeError, match=f"^{method}: instance_id must be a str, not int$"):
        getattr(df.DurableOrchestrationClient(BINDING), method)(*arguments)


def test_a_status_that_nobody_knows_is_refused_with_those_there_are() -> None:
    hub = ScriptedHub()
    with pytest.raises(ValueError, match="'Runing' is not a valid OrchestrationRuntimeStatus; there are Running, "):
        ask(client_of(hub).get_status_by(runtime_status=["Runing"]))
    assert hub.asked == []


def test_a_list_may_name_statuses_by_text() -> None:
    hub = ScriptedHub([[]])
    ask(client_of(hub).get_status_by(runtime_status=["Running", df.OrchestrationRuntimeStatus.Failed]))

    assert hub.asked == [("query", InstanceQuery(statuses=("Running", "Failed"), limit=1000))]


# --- steering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "text"), [(None, "null"), (False, "false"), ({"n": 1}, '{"n": 1}'), ("x", '"x"')])
def test_an_event_is_encoded_once(data: Any, text: str) -> None:
    hub = ScriptedHub()
    ask(client_of(hub).raise_event("i1", "go", data, task_hub_name="myhub"))

    assert hub.asked == [("raise_event", "i1", "go", text, "client")]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InstanceNotFound("i1"), "No instance with ID i1 found."),
        (InstanceEnded("i1", "Completed"), "Instance with ID i1 is gone: either completed or failed"),
        (Overloaded("Too much."), "Too much."),
    ],
)
def test_an_event_that_cannot_be_taken_is_refused(error: CallerError, text: str) -> None:
    with pytest.raises(df.DurableClientError) as caught:
        ask(client_of(ScriptedHub(error)).raise_event("i1", "go"))
    assert str(caught.value) == text


def test_an_event_needs_a_name_and_this_task_hub() -> None:
    client = client_of(ScriptedHub())

    with pytest.raises(ValueError, match="event_name"):
        ask(client.raise_event("i1", ""))
    with pytest.raises(ValueError, match="reaches the task hub 'MyHub' and no other"):
        ask(client.raise_event("i1", "go", task_hub_name="Other"))
    with pytest.raises(ValueError, match="reaches the task hub 'MyHub' and no other"):
        ask(client.raise_event("i1", "go", connection_name="OtherStorage"))


@pytest.mark.parametrize("verb", ["terminate", "suspend", "resume"])
def test_steering(verb: str) -> None:
    hub = ScriptedHub([None, InstanceEnded("i1", "Failed"), InstanceNotFound("i1"), WrongStatus(verb, "i1", "Running")])
    client = client_of(hub)

    ask(getattr(client, verb)("i1", "because"))
    ask(getattr(client, verb)("i1", "too late, which is fine"))
    with pytest.raises(df.DurableClientError, match=r"^No instance with ID 'i1' found\.$"):
        ask(getattr(client, verb)("i1", "because"))
    with pytest.raises(df.DurableClientError, match=f"Cannot {verb} the orchestration instance i1"):
        ask(getattr(client, verb)("i1", "because"))
    assert hub.asked[0] == (verb, "i1", "because")


def test_purging_counts_what_it_deleted() -> None:
    client = client_of(ScriptedHub([None, InstanceNotFound("i1"), WrongStatus("purge", "i1", "Running")]))

    assert ask(client.purge_instance_history("i1")).instances_deleted == 1
    assert ask(client.purge_instance_history("i1")).instances_deleted == 0
    with pytest.raises(df.DurableClientError, match="Running state"):
        ask(client.purge_instance_history("i1"))


# --- reading ---------------------------------------------------------------------------------------------------------


def test_the_status_of_an_instance() -> None:
    row = row_of("Completed", output='["Hello"]', custom_status='{"step": 1}')
    status = ask(client_of(ScriptedHub(row)).get_status("i1"))

    assert status
    assert (status.name, status.instance_id, status.input_, status.output) == ("orch", "i1", "Tokyo", ["Hello"])
    assert status.runtime_status is df.OrchestrationRuntimeStatus.Completed
    assert status.created_time == datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
    assert status.last_updated_time - status.created_time == timedelta(seconds=0.5)
    assert (status.custom_status, status.history) == ({"step": 1}, None)
    assert list(status.to_json()) == [
        "name",
        "instanceId",
        "createdTime",
        "lastUpdatedTime",
        "output",
        "input",
        "runtimeStatus",
        "customStatus",
    ]
    assert status.to_json()["createdTime"] == "2024-05-01T12:00:00.000000Z"


def test_the_status_of_no_instance_is_false_and_can_be_shown() -> None:
    status = ask(client_of(ScriptedHub(None)).get_status("i1"))

    assert not status
    assert status.runtime_status is None
    assert status.to_json() == {}


def test_the_output_of_a_failed_instance_is_its_failures_text() -> None:
    failure = encode_failure(Failure("ValueError", "boom", "orchestrator", "orch"))
    status = ask(client_of(ScriptedHub(row_of("Failed", failure=failure))).get_status("i1"))

    assert status.output == "Orchestrator function 'orch' failed: boom"


def test_the_output_of_a_terminated_instance_is_the_reason_as_it_was_given() -> None:
    assert ask(client_of(ScriptedHub(row_of("Terminated", output="7"))).get_status("i1")).output == "7"


def test_a_history_is_shown_in_the_form_of_the_management_api() -> None:
    records = [TurnRecord(START)]
    hub = ScriptedHub([row_of(), records])
    asked: list[Any] = []

    def view(records: Any, show_input: bool, show_output: bool) -> list[dict[str, Any]]:
        asked.append((records, show_input, show_output))
        return [{"EventType": "ExecutionStarted"}]

    status = ask(client_of(hub, history_view=view).get_status("i1", True, show_history_output=True))

    assert asked == [(records, False, True)]
    assert status.history == [{"EventType": "ExecutionStarted"}]
    assert status.historyEvents == status.history


def test_a_pending_instance_has_no_history() -> None:
    assert ask(client_of(ScriptedHub([row_of("Pending")])).get_status("i1", show_history=True)).history is None


def test_all_instances_are_listed_page_by_page() -> None:
    rows = [row_of(key=key) for key in range(1, 1002)]
    hub = ScriptedHub([rows[:1000], rows[1000:]])

    found = ask(client_of(hub).get_status_all())

    assert [status.instance_id for status in found] == [row.id for row in rows]
    assert [query.after_key for _, query in hub.asked] == [0, 1000]


def test_a_list_may_have_conditions() -> None:
    hub = ScriptedHub([[]])
    zone = timezone(timedelta(hours=2))
    ask(
        client_of(hub).get_status_by(
            datetime(2024, 5, 1, 14, tzinfo=zone),
            datetime(2024, 5, 1, 12, 0, 1),
            [df.OrchestrationRuntimeStatus.Running, df.OrchestrationRuntimeStatus.Failed],
            "order-",
        )
    )

    assert hub.asked == [
        ("query", InstanceQuery(START, START + SECOND, ("Running", "Failed"), "order-", limit=1000)),
    ]


@pytest.mark.parametrize(
    ("row", "code", "body"),
    [
        (row_of("Completed", output='"Hello"'), 200, "Hello"),
        (row_of("Completed", output='["Hello"]'), 200, '["Hello"]'),
        (row_of("Completed"), 200, "null"),
        (row_of("Terminated", output="why"), 200, None),
        (row_of("Failed", failure=encode_failure(boom())), 500, None),
        (row_of("Running"), 202, None),
    ],
)
def test_waiting_gives_the_output_the_status_or_the_links(row: InstanceRow, code: int, body: str | None) -> None:
    hub = ScriptedHub(row)
    request = request_to("http://localhost:7071/api/start")
    response = ask(client_of(hub).wait_for_completion_or_create_check_status_response(request, "i1", 2000, 500))

    assert hub.asked == [("wait", "i1", 2.0)]
    assert response.status_code == code
    assert response.mimetype == "application/json"
    if body is not None:
        assert response.get_body() == body.encode()
    elif code != 202:
        assert json.loads(response.get_body())["runtimeStatus"] == row.status


def test_waiting_needs_a_pause_below_the_timeout() -> None:
    with pytest.raises(ValueError, match=r"^Total timeout 1 \(ms\) should be bigger than retry timeout 2 \(ms\)$"):
        ask(client_of(ScriptedHub()).wait_for_completion_or_create_check_status_response(request_to("x"), "i1", 1, 2))


# --- links -----------------------------------------------------------------------------------------------------------


def test_the_check_status_response_has_links_at_the_address_of_the_request() -> None:
    request = request_to("https://example.org:8443/api/start?x=1")
    response = df.DurableOrchestrationClient(BINDING).create_check_status_response(request, "i1")

    links = json.loads(response.get_body())
    root = "https://example.org:8443/runtime/webhooks/durabletask"
    assert links == {
        "id": "i1",
        "statusQueryGetUri": f"{root}/instances/i1?taskHub=MyHub&code=k",
        "sendEventPostUri": f"{root}/instances/i1/raiseEvent/{{eventName}}?taskHub=MyHub&code=k",
        "terminatePostUri": f"{root}/instances/i1/terminate?reason={{text}}&taskHub=MyHub&code=k",
    }
    assert response.status_code == 202
    assert response.headers["Location"] == links["statusQueryGetUri"]
    assert response.headers["Retry-After"] == "10"
    assert response.mimetype == "application/json"


def test_the_management_payload_has_links_at_the_hosts_own_address() -> None:
    links = df.DurableOrchestrationClient(BINDING).create_http_management_payload("a b:1")

    assert links["id"] == "a b:1"
    assert links["statusQueryGetUri"] == f"{BASE}/instances/a%20b:1?taskHub=MyHub&code=k"


def test_a_client_without_a_task_hub_says_where_it_works() -> None:
    with pytest.raises(RuntimeError, match="not connected to a task hub"):
        ask(df.DurableOrchestrationClient(BINDING).start_new("orch"))


@pytest.mark.parametrize("text", ["", "{}", "[]", "7"])
def test_what_is_no_client_binding_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the JSON text of a durable client binding"):
        df.DurableOrchestrationClient(text)


# --- status objects --------------------------------------------------------------------------------------------------


def test_a_status_is_read_from_the_management_api() -> None:
    from azure.durable_functions.status import DurableOrchestrationStatus

    status = DurableOrchestrationStatus.from_json(
        {
            "name": "orch",
            "instanceId": "i1",
            "runtimeStatus": "Running",
            "input": None,
            "createdTime": "2024-05-01T12:00:00Z",
            "lastUpdatedTime": "2024-05-01T12:00:00.1234567Z",
            "historyEvents": [1],
        }
    )

    assert status.created_time == datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
    assert status.last_updated_time == datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=timezone.utc)
    assert status.historyEvents == [1]  # pyright: ignore[reportAttributeAccessIssue]
    assert DurableOrchestrationStatus.from_json("no such thing").message == "no such thing"  # pyright: ignore
    assert not DurableOrchestrationStatus.from_json("no such thing")


def test_runtime_statuses_are_their_names() -> None:
    assert {status.value for status in df.OrchestrationRuntimeStatus} == {
        "Running",
        "Completed",
        "ContinuedAsNew",
        "Failed",
        "Canceled",
        "Terminated",
        "Pending",
        "Suspended",
    }
    assert all(status.name == status.value for status in df.OrchestrationRuntimeStatus)
