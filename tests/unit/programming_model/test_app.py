"""Decorators, on every kind of app and in every order."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

import azure.durable_functions as df
import azure.functions as func
import pytest
from azure.durable_functions.app import begin_loading, default_blueprint
from azure.durable_functions.handles import client_inputs

from perdure.core.errors import UserCodeError

BINDING = json.dumps(
    {
        "taskHubName": "hub",
        "connectionName": None,
        "creationUrls": {},
        "managementUrls": {"id": "INSTANCEID", "statusQueryGetUri": "http://localhost/instances/INSTANCEID?code=1"},
        "rpcBaseUrl": "http://127.0.0.1:17071/durabletask/",
    }
)

every_app = pytest.mark.parametrize("make", [df.DFApp, func.FunctionApp], ids=["DFApp", "FunctionApp"])
every_container = pytest.mark.parametrize(
    "make",
    [df.DFApp, df.Blueprint, func.FunctionApp, func.Blueprint],
    ids=["DFApp", "df.Blueprint", "FunctionApp", "func.Blueprint"],
)


def functions_of(container: Any) -> dict[str, func.Function]:
    """What the host gets, by name."""
    app = container
    if not hasattr(app, "get_functions"):
        app = func.FunctionApp()
        app.register_functions(container)
    if not any(builder._function._trigger.type == "httpTrigger" for builder in app._function_builders):
        app._require_auth_level = True  # azure.functions warns of an app without HTTP functions.
    return {function.get_function_name(): function for function in app.get_functions()}


def bindings_of(function: Any) -> list[dict[str, Any]]:
    return json.loads(function.get_function_json())["bindings"]


@pytest.fixture(autouse=True)
def fresh_default_blueprint() -> None:
    begin_loading()


@every_container
def test_the_decorators_give_the_bindings_of_durable_functions(make: Callable[[], Any]) -> None:
    app = make()

    @app.orchestration_trigger(context_name="context")
    def orchestrate(context: Any) -> Any: ...

    @app.activity_trigger(input_name="city", activity="Hello")
    def hello(city: str) -> str:
        return f"Hello {city}!"

    @app.route(route="start")
    @app.durable_client_input(client_name="client", task_hub="other")
    async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> None: ...

    functions = functions_of(app)
    assert bindings_of(functions["orchestrate"]) == [
        {"direction": "IN", "type": "orchestrationTrigger", "name": "context"}
    ]
    assert bindings_of(functions["hello"]) == [
        {"direction": "IN", "type": "activityTrigger", "name": "city", "activity": "Hello"}
    ]
    assert {"direction": "IN", "type": "durableClient", "name": "client", "taskHub": "other"} in bindings_of(
        functions["start"]
    )
    assert functions["hello"].get_user_function()("Tokyo") == "Hello Tokyo!"


@every_container
@pytest.mark.parametrize("client_below", [True, False], ids=["client below", "client above"])
def test_a_client_and_a_trigger_may_stand_in_any_order(make: Callable[[], Any], client_below: bool) -> None:
    app = make()

    @app.route(route="other")
    def other(req: func.HttpRequest) -> None: ...

    async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> None: ...

    route, client = app.route(route="start"), app.durable_client_input(client_name="client")
    if client_below:
        route(client(start))
    else:
        client(route(start))

    functions = functions_of(app)
    assert list(functions) == ["other", "start"]
    assert functions["start"].get_trigger().type == "httpTrigger"
    assert "durableClient" in [binding["type"] for binding in bindings_of(functions["start"])]
    assert list(client_inputs(functions["start"])) == ["client"]


@every_container
@pytest.mark.parametrize("name_below", [True, False], ids=["name below", "name above"])
def test_a_function_name_may_stand_above_or_below_a_trigger(make: Callable[[], Any], name_below: bool) -> None:
    app = make()
    decorators = [app.function_name("Named"), app.orchestration_trigger(context_name="context")]
    function: Any = lambda context: None  # noqa: E731
    for decorator in decorators if name_below else reversed(decorators):
        function = decorator(function)

    functions = functions_of(app)
    assert list(functions) == ["Named"]
    assert functions["Named"].get_trigger().type == "orchestrationTrigger"


def test_the_users_functions_can_be_reached_for_tests() -> None:
    app = df.DFApp()

    def orchestrate(context: Any) -> Any:
        yield context

    async def start(req: Any, client: Any) -> str:
        return f"{req} {client}"

    orchestrator = app.orchestration_trigger(context_name="context")(orchestrate)
    client = app.route(route="x")(app.durable_client_input(client_name="client")(start))

    assert orchestrator._function._name == "orchestrate"
    assert orchestrator._function._func.orchestrator_function is orchestrate
    assert client._function._func.client_function is start
    assert list(orchestrator._function._func("context")) == ["context"]
    assert asyncio.run(client._function._func("req", client=7)) == "req 7"


def test_an_async_orchestrator_is_refused_where_it_is_declared() -> None:
    app = df.DFApp()

    async def orchestrate(context: Any) -> Any: ...

    with pytest.raises(TypeError, match=r"'orchestrate' is declared with `async def`. Write it with `def` and `yield`"):
        app.orchestration_trigger(context_name="context")(orchestrate)


def test_a_client_is_made_of_the_binding_and_may_be_given_ready_made() -> None:
    async def start(client: Any, context: Any = None) -> Any:
        return client

    def start_plainly(client: Any) -> Any:
        return client

    blueprint = df.Blueprint()
    decorate = blueprint.durable_client_input(client_name="client")
    wrapped, plain = decorate(start)._function._func, decorate(start_plainly)._function._func

    made = asyncio.run(wrapped(client=BINDING, context=type("Context", (), {"invocation_id": "i1"})()))
    assert isinstance(made, df.DurableOrchestrationClient)
    assert made.task_hub_name == "hub"
    assert isinstance(plain(client=BINDING), df.DurableOrchestrationClient)
    assert plain(client=made) is made
    assert inspect.iscoroutinefunction(wrapped)
    assert not inspect.iscoroutinefunction(plain)


def test_an_annotation_that_cannot_be_evaluated_does_not_matter() -> None:
    source = "async def start(req: 'Missing', client: 'df.DurableOrchestrationClient'): ..."
    namespace: dict[str, Any] = {}
    exec(compile(source, "app.py", "exec", dont_inherit=True), namespace)

    function = df.Blueprint().durable_client_input(client_name="client")(namespace["start"])._function._func

    assert function.__annotations__ == {"req": "Missing", "client": str}
    assert list(inspect.signature(function).parameters) == ["req", "client"]


def test_a_function_may_take_two_clients() -> None:
    app = df.DFApp()

    @app.route(route="x")
    @app.durable_client_input(client_name="first")
    @app.durable_client_input(client_name="second", task_hub="other")
    async def start(req: Any, first: Any, second: Any) -> None: ...

    function = functions_of(app)["start"]
    assert sorted(client_inputs(function)) == ["first", "second"]
    assert client_inputs(function)["second"].task_hub == "other"


def test_the_apps_auth_level_applies_to_its_functions() -> None:
    app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    blueprint = df.Blueprint(http_auth_level=func.AuthLevel.ADMIN)

    @blueprint.route(route="x")
    def handler(req: func.HttpRequest) -> None: ...

    app.register_functions(blueprint)
    assert bindings_of(functions_of(app)["handler"])[0]["authLevel"] == "ANONYMOUS"


# --- the decorators at the top level ---------------------------------------------------------------------------------


def test_top_level_decorators_register_on_the_default_blueprint() -> None:
    @df.orchestration_trigger(context_name="context")
    def orchestrate(context: Any) -> Any: ...

    @df.activity_trigger(input_name="city")
    def hello(city: str) -> str: ...

    assert list(functions_of(default_blueprint())) == ["orchestrate", "hello"]


def test_each_loading_has_a_default_blueprint_of_its_own() -> None:
    df.activity_trigger(input_name="x")(lambda x: x)
    first = default_blueprint()
    begin_loading()

    assert default_blueprint() is not first
    assert functions_of(default_blueprint()) == {}


@every_container
@pytest.mark.parametrize("client_below", [True, False], ids=["client below", "client above"])
def test_a_top_level_client_goes_with_any_apps_route(make: Callable[[], Any], client_below: bool) -> None:
    app = make()

    @app.route(route="other")
    def other(req: func.HttpRequest) -> None: ...

    async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> None: ...

    route, client = app.route(route="start"), df.durable_client_input(client_name="client", connection_name="Storage")
    if client_below:
        route(client(start))
    else:
        client(route(start))

    functions = functions_of(app)
    assert list(functions) == ["other", "start"]
    assert list(client_inputs(functions["start"])) == ["client"]
    assert client_inputs(functions["start"])["client"].connection_name == "Storage"
    assert functions["start"].get_user_function().client_function is start
    assert default_blueprint()._function_builders == []


def test_a_blueprints_decorator_leaves_a_builder_of_another_one_where_it_was() -> None:
    app, blueprint = func.FunctionApp(), df.Blueprint()

    @blueprint.activity_trigger(input_name="x")
    def mine(x: Any) -> Any: ...

    @blueprint.durable_client_input(client_name="client")
    @app.route(route="start")
    async def start(req: func.HttpRequest, client: Any) -> None: ...

    app.register_functions(blueprint)
    assert list(functions_of(app)) == ["start", "mine"]


@every_container
def test_an_entity_is_refused_where_it_is_declared(make: Callable[[], Any]) -> None:
    with pytest.raises(UserCodeError, match=r"does not serve entities yet, see docs/compatibility\.md"):
        make().entity_trigger(context_name="context")


def test_only_functions_can_be_decorated() -> None:
    with pytest.raises(ValueError, match="Unsupported type for function app decorator found"):
        df.Blueprint().activity_trigger(input_name="x")(7)
