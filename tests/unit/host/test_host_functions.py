"""HTTP functions through the gateway: what a function is given, and what becomes of what it returns."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import httpx
import pytest
from azure.durable_functions.client import connect_client
from fake_hub import FakeHub, make_row

from perdure.core.errors import HostStopping, Overloaded
from perdure.host.asgi import MAX_BODY_BYTES
from perdure.host.gateway import Gateway
from perdure.host.http_functions import HttpFunctions
from perdure.host.indexing import index_functions
from perdure.host.injection import Injector
from perdure.host.links import WEBHOOK_PATH, client_binding
from perdure.host.management import ManagementApi
from perdure.host.settings import AppSettings, CommandLine, read_settings
from perdure.host.user_code import UserCode
from perdure.runtime import ThreadRuntime

Call = Callable[..., httpx.Response]


class Bench:
    """An app of the test's own, served over ASGI by a gateway."""

    def __init__(self, app_root: Path, runtime: ThreadRuntime) -> None:
        self.app = func.FunctionApp()
        self.hub = FakeHub("Shop")
        self.gateway: Gateway | None = None
        self._app_root = app_root
        self._runtime = runtime

    def call(self, method: str, path: str, root_path: str = "", **options: Any) -> httpx.Response:
        if self.gateway is None:
            self.gateway = self._serve()
        transport = httpx.ASGITransport(self.gateway, root_path=root_path)

        async def exchange() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://shop.example:7071") as client:
                return await client.request(method, path, **options)

        return asyncio.run(exchange())

    def _serve(self) -> Gateway:
        settings = read_settings(self._app_root, CommandLine(), {"PERDURE_HUB_NAME": "Shop"})
        index = index_functions(self.app.get_functions(), settings, AppSettings({}))
        binding = client_binding(f"http://localhost:7071{WEBHOOK_PATH}", "Shop")
        injector = Injector(lambda: connect_client(binding, self.hub), self._app_root)
        user_code = UserCode(self._runtime.pool("http", 4), self._runtime.async_pool("user"))
        return Gateway(
            host_id="Shop",
            version="1.2.3",
            management=ManagementApi(self.hub),
            functions=HttpFunctions(index.http, user_code, injector),
            problems=[missing.reason for missing in index.not_served],
            local=False,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    runtime = ThreadRuntime()
    runtime.start()
    yield Bench(tmp_path, runtime)
    runtime.close()


# --- the request -----------------------------------------------------------------------------------------------------


def test_a_function_is_given_the_request_as_it_was_sent(bench: Bench) -> None:
    seen: list[func.HttpRequest] = []

    @bench.app.route(route="orders/{id:int}/{*rest}", methods=["POST"])
    def orders(req: func.HttpRequest) -> str:
        seen.append(req)
        return "ok"

    bench.call(
        "POST",
        "/api/ORDERS/7/a%20b/c?x=1&y=a%2Bb+c&x=2&empty=",
        content=b'{"n": 1}',
        headers=[("X-One", "1"), ("x-one", "2"), ("content-type", "application/json")],
    )
    (req,) = seen
    assert req.method == "POST"
    assert req.url == "http://shop.example:7071/api/ORDERS/7/a%20b/c?x=1&y=a%2Bb+c&x=2&empty="
    assert req.headers["X-ONE"] == "1,2"
    assert dict(req.params) == {"x": "1,2", "y": "a+b c", "empty": ""}
    assert dict(req.route_params) == {"id": "7", "rest": "a b/c"}
    assert req.get_body() == b'{"n": 1}'
    assert req.get_json() == {"n": 1}


def test_forms_and_files_are_read(bench: Bench) -> None:
    @bench.app.route()
    def upload(req: func.HttpRequest) -> str:
        file = req.files["file"]
        content = file.read()
        file.close()
        return req.form["name"] + content.decode()

    answer = bench.call("POST", "/api/upload", data={"name": "a"}, files={"file": ("f.txt", b"content")})
    assert answer.text == "acontent"


def test_a_body_that_is_not_json_raises_in_the_function(bench: Bench) -> None:
    @bench.app.route()
    def parse(req: func.HttpRequest) -> func.HttpResponse:
        try:
            return func.HttpResponse(json.dumps(req.get_json()))
        except ValueError:
            return func.HttpResponse("bad", status_code=400)

    assert bench.call("POST", "/api/parse", content=b"{").status_code == 400
    assert bench.call("POST", "/api/parse", content=b"[1]").text == "[1]"


def test_a_function_may_ask_for_the_context_of_its_call(bench: Bench, tmp_path: Path) -> None:
    seen: list[func.Context] = []

    @bench.app.route()
    async def ask(req: func.HttpRequest, context: func.Context) -> str:
        seen.append(context)
        return "ok"

    bench.call("GET", "/api/ask", headers={"traceparent": "00-a-b-01"})
    bench.call("GET", "/api/ask")
    assert [context.function_name for context in seen] == ["ask", "ask"]
    assert [context.trace_context.trace_parent for context in seen] == ["00-a-b-01", ""]
    assert seen[0].function_directory == str(tmp_path)
    assert seen[0].retry_context.retry_count == 0
    assert seen[0].invocation_id != seen[1].invocation_id


def test_functions_run_neither_on_the_thread_of_the_server_nor_plain_ones_on_the_users_loop(bench: Bench) -> None:
    threads: dict[str, int] = {}

    @bench.app.route()
    def plain(req: func.HttpRequest) -> str:
        threads["plain"] = threading.get_ident()
        return "ok"

    @bench.app.route()
    async def loop(req: func.HttpRequest) -> str:
        threads["loop"] = threading.get_ident()
        return "ok"

    bench.call("GET", "/api/plain")
    bench.call("GET", "/api/loop")
    assert len({threads["plain"], threads["loop"], threading.get_ident()}) == 3


def test_an_async_function_behind_a_plain_decorator_is_awaited(bench: Bench) -> None:
    def logged(function: Any) -> Any:
        def inner(req: func.HttpRequest) -> Any:
            return function(req)

        return inner

    @bench.app.route(route="hidden")
    @logged
    async def hidden(req: func.HttpRequest) -> str:
        return "awaited"

    assert bench.call("GET", "/api/hidden").text == "awaited"


def test_a_body_above_the_limit_is_refused_unread(bench: Bench) -> None:
    @bench.app.route()
    def swallow(req: func.HttpRequest) -> str:
        raise AssertionError("it must not be called")

    announced = {"content-length": str(MAX_BODY_BYTES + 1)}
    assert bench.call("POST", "/api/swallow", headers=announced, content=b"").status_code == 413


# --- the client ------------------------------------------------------------------------------------------------------


def test_a_function_is_given_a_client_of_the_hub(bench: Bench) -> None:
    @bench.app.route(route="go/{name}")
    @bench.app.durable_client_input(client_name="starter")
    async def go(req: func.HttpRequest, starter: df.DurableOrchestrationClient) -> func.HttpResponse:
        instance_id = await starter.start_new(req.route_params["name"], None, {"a": 1})
        return starter.create_check_status_response(req, instance_id)

    answer = bench.call("GET", "/api/go/Work")
    assert answer.status_code == 202
    links = answer.json()
    instance = f"http://shop.example:7071{WEBHOOK_PATH}/instances/{links['id']}"
    assert answer.headers["location"] == links["statusQueryGetUri"] == f"{instance}?taskHub=Shop&connection=Storage"
    assert set(links) == {
        "id",
        "statusQueryGetUri",
        "sendEventPostUri",
        "terminatePostUri",
        "rewindPostUri",
        "purgeHistoryDeleteUri",
        "restartPostUri",
        "suspendPostUri",
        "resumePostUri",
    }
    ((_, request),) = bench.hub.told
    assert (request.name, json.loads(request.input)) == ("Work", {"a": 1})


@pytest.mark.parametrize(("error", "status"), [(Overloaded("busy"), 429), (HostStopping("stopping"), 503)])
def test_a_refusal_at_the_door_that_a_function_lets_through_is_no_failure(
    bench: Bench, error: Exception, status: int
) -> None:
    @bench.app.route()
    @bench.app.durable_client_input(client_name="client")
    async def go(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> str:
        return await client.start_new("Work")

    bench.hub.refusal = error
    assert bench.call("GET", "/api/go").status_code == status


# --- the response ----------------------------------------------------------------------------------------------------


def returning(bench: Bench, value: Any) -> httpx.Response:
    @bench.app.route(route="give")
    def give(req: func.HttpRequest) -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    return bench.call("GET", "/api/give")


def test_a_text_is_a_plain_response(bench: Bench) -> None:
    answer = returning(bench, "grüß")
    assert (answer.status_code, answer.text) == (200, "grüß")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_response_is_sent_with_its_status_headers_type_and_charset(bench: Bench) -> None:
    answer = returning(
        bench, func.HttpResponse("grüß", status_code=201, headers={"X-A": "b"}, mimetype="text/html", charset="latin-1")
    )
    assert (answer.status_code, answer.headers["x-a"], answer.content) == (201, "b", "grüß".encode("latin-1"))
    assert answer.headers["content-type"] == "text/html; charset=latin-1"


def test_a_type_other_than_text_gets_no_charset_and_a_header_wins(bench: Bench) -> None:
    assert returning(bench, func.HttpResponse(b"x", mimetype="image/png")).headers["content-type"] == "image/png"


def test_the_content_type_of_the_headers_wins_over_the_mimetype(bench: Bench) -> None:
    answer = returning(bench, func.HttpResponse("{}", headers={"Content-Type": "application/problem+json"}))
    assert answer.headers.get_list("content-type") == ["application/problem+json"]


def test_cookies_are_sent_one_by_one(bench: Bench) -> None:
    response = func.HttpResponse("ok")
    response.headers.add("Set-Cookie", "a=1; Path=/; Expires=Wed, 01 May 2030 12:00:00 GMT")
    response.headers.add("Set-Cookie", "b=2")
    answer = returning(bench, response)
    assert len(answer.headers.get_list("set-cookie")) == 2


def test_the_length_is_that_of_the_body_whatever_the_headers_say(bench: Bench) -> None:
    answer = returning(bench, func.HttpResponse("four", headers={"Content-Length": "999"}))
    assert answer.headers["content-length"] == "4"


def test_a_204_has_no_body(bench: Bench) -> None:
    answer = returning(bench, func.HttpResponse("never seen", status_code=204))
    assert (answer.status_code, answer.content, "content-length" in answer.headers) == (204, b"", False)


@pytest.mark.parametrize("value", [None, 5, {"a": 1}, b"bytes"])
def test_what_is_no_response_is_an_empty_500_with_the_reason_in_the_log(
    bench: Bench, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answer = returning(bench, value)
    assert (answer.status_code, answer.content) == (500, b"")
    assert f"it returned {type(value).__name__}" in caplog.text


@pytest.mark.parametrize(
    "response",
    [
        lambda: func.HttpResponse("x", status_code=700),
        lambda: func.HttpResponse("x", status_code="many"),  # type: ignore[arg-type]
        lambda: func.HttpResponse("x", headers={"X-A": "snowman \u2603"}),
        lambda: func.HttpResponse("x", headers={"bad name": "x"}),
    ],
)
def test_a_response_that_http_cannot_carry_is_an_empty_500(
    bench: Bench, response: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    answer = returning(bench, response())
    assert (answer.status_code, answer.content) == (500, b"")
    assert "cannot be sent" in caplog.text


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit(3), StopIteration(), asyncio.CancelledError()])
def test_an_exception_is_an_empty_500_with_the_users_frames_in_the_log(
    bench: Bench, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    answer = returning(bench, error)
    assert (answer.status_code, answer.content) == (500, b"")
    assert "Function give failed" in caplog.text
    if isinstance(error, ValueError):
        assert "raise value" in caplog.text
        assert "user_code.py" not in caplog.text


def test_a_function_without_an_output_binding_answers_204(bench: Bench) -> None:
    @bench.app.generic_trigger(arg_name="req", type="httpTrigger", route="silent")
    def silent(req: func.HttpRequest) -> None:
        return None

    assert bench.call("GET", "/api/silent").status_code == 204


# --- which function --------------------------------------------------------------------------------------------------


def test_a_function_is_chosen_by_path_and_method(bench: Bench) -> None:
    @bench.app.route(route="x", methods=["GET"])
    def read(req: func.HttpRequest) -> str:
        return "read"

    @bench.app.route(route="x", methods=["PUT", "DELETE"])
    def write(req: func.HttpRequest) -> str:
        return "write"

    @bench.app.route(route="{*rest}", methods=["GET", "HEAD"])
    def rest(req: func.HttpRequest) -> str:
        return "rest"

    assert [bench.call(method, "/api/x").text for method in ("GET", "PUT", "DELETE")] == ["read", "write", "write"]
    assert bench.call("GET", "/api/x/y").text == "rest"
    assert bench.call("PATCH", "/api/x").status_code == 404
    assert bench.call("GET", "/x").status_code == 404


def test_a_function_of_any_method_answers_all_of_them(bench: Bench) -> None:
    @bench.app.route()
    def anything(req: func.HttpRequest) -> str:
        return req.method

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    assert [bench.call(method, "/api/anything").text for method in methods] == methods


def test_the_hosts_own_paths_are_not_given_to_a_function(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text('{"version": "2.0", "extensions": {"http": {"routePrefix": ""}}}')

    @bench.app.route(route="{*all}")
    def everything(req: func.HttpRequest) -> str:
        return "mine"

    assert bench.call("GET", "/").text == "mine"
    assert bench.call("GET", "/x/y").text == "mine"
    assert bench.call("GET", "/admin/x").status_code == 404
    assert bench.call("GET", "/runtime/webhooks/other").status_code == 404


# --- the host's own --------------------------------------------------------------------------------------------------


def test_the_host_tells_its_status_and_answers_a_ping(bench: Bench) -> None:
    @bench.app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def nightly(timer: func.TimerRequest) -> None: ...

    status = bench.call("GET", "/admin/host/status").json()
    assert (status["id"], status["state"], status["version"]) == ("Shop", "Running", "1.2.3")
    assert status["processUptime"] >= 0
    assert status["errors"] == ["Perdure has no timerTrigger"]
    assert [bench.call(method, "/ADMIN/host/ping").status_code for method in ("GET", "POST", "PUT")] == [200, 200, 404]
    assert bench.call("POST", "/admin/host/status").status_code == 404


def test_the_root_shows_a_page(bench: Bench) -> None:
    answer = bench.call("GET", "/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "up and running" in answer.text
    assert bench.call("POST", "/").status_code == 404


def test_a_host_that_stops_calls_no_function_but_shows_what_is_there(bench: Bench) -> None:
    @bench.app.route()
    def work(req: func.HttpRequest) -> str:
        return "done"

    assert bench.call("GET", "/api/work").status_code == 200
    assert bench.gateway is not None
    bench.gateway.begin_stopping()
    bench.hub.add(make_row("i1"))
    assert bench.call("GET", "/api/work").status_code == 503
    assert bench.call("GET", "/admin/host/status").json()["state"] == "Stopping"
    assert bench.call("GET", f"{WEBHOOK_PATH}/instances/i1").status_code == 202


def test_a_mounted_host_finds_its_paths_and_gives_links_below_the_mount(bench: Bench) -> None:
    @bench.app.route()
    def where(req: func.HttpRequest) -> str:
        return req.url

    assert bench.call("GET", "/sub/api/where", root_path="/sub").text == "http://shop.example:7071/sub/api/where"
    links = bench.call("POST", f"/sub{WEBHOOK_PATH}/orchestrators/X", root_path="/sub").json()
    assert links["statusQueryGetUri"].startswith(f"http://shop.example:7071/sub{WEBHOOK_PATH}/instances/")


def test_an_internal_error_is_an_empty_500_and_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.hub.refusal = ZeroDivisionError("ours")
    with caplog.at_level(logging.CRITICAL):
        answer = bench.call("POST", f"{WEBHOOK_PATH}/orchestrators/X")
    assert (answer.status_code, answer.content) == (500, b"")
    assert "ZeroDivisionError" in caplog.text
