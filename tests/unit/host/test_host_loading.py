"""Loading an app: what is found, and how the mistakes of its author are told."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.host.indexing import AppFunctions, index_functions
from perdure.host.loading import enter_app_folder, load_functions
from perdure.host.problems import AppProblem
from perdure.host.settings import AppSettings, CommandLine, read_settings


class App:
    """A folder with the files of an app."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, source: str, name: str = "function_app.py") -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(textwrap.dedent(source), encoding="utf-8")

    def load(self, **environment: str) -> AppFunctions:
        settings = read_settings(self.root, CommandLine(), environment)
        enter_app_folder(self.root)
        functions = load_functions(self.root, settings.script)
        return index_functions(functions, settings, AppSettings(environment))

    def problem(self, **environment: str) -> str:
        with pytest.raises(AppProblem) as caught:
            self.load(**environment)
        return str(caught.value)

    def at(self, line: int, name: str = "function_app.py") -> str:
        return f"{self.root / name}:{line}: "


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """Whatever loading does to the process is undone."""
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield App(folder)
    for name in set(sys.modules) - before:
        del sys.modules[name]


ONE_OF_EACH = """
    import azure.functions as func
    import azure.durable_functions as df

    app = df.DFApp()

    @app.route(route="begin", methods=["POST", "GET"])
    @app.durable_client_input(client_name="client")
    async def start(req: func.HttpRequest, client):
        return "ok"

    @app.orchestration_trigger(context_name="context")
    def Orchestrate(context):
        yield context.call_activity("work")

    @app.activity_trigger(input_name="value")
    def work(value, context):
        return value
    """


# --- what is found ---------------------------------------------------------------------------------------------------


def test_the_functions_of_an_app_are_found_by_trigger(app: App) -> None:
    app.write(ONE_OF_EACH)
    found = app.load()
    (http,) = found.http
    assert (http.name, http.route.template, http.methods) == ("start", "api/begin", {"GET", "POST"})
    assert (http.request_parameter, http.injection.clients, http.injection.context) == ("req", ("client",), False)
    assert [(one.called, one.trigger) for one in found.durable] == [
        ("Orchestrate", "orchestrationTrigger"),
        ("work", "activityTrigger"),
    ]
    assert found.durable[1].injection.context
    assert (found.not_served, found.disabled) == ([], [])


def test_the_process_is_the_apps_while_it_is_loaded(app: App) -> None:
    app.write("VALUE = 7", "shared/values.py")
    app.write(
        """
        import os
        import azure.functions as func
        from shared.values import VALUE
        FOLDER = os.getcwd()
        app = func.FunctionApp()
        """
    )
    app.load()
    module = sys.modules["function_app"]
    assert module.VALUE == 7
    assert str(app.root) == module.FOLDER == os.getcwd() == sys.path[0]


def test_another_file_can_be_the_apps_module(app: App) -> None:
    app.write("import azure.functions as func\napp = func.FunctionApp()\n", "main.py")
    assert app.load(PYTHON_SCRIPT_FILE_NAME="main.py").http == []


def test_the_package_level_decorators_register_beside_the_app(app: App) -> None:
    app.write(
        """
        import azure.functions as func
        from azure.durable_functions import activity_trigger, orchestration_trigger

        app = func.FunctionApp()

        @orchestration_trigger(context_name="context")
        def Orchestrate(context):
            yield

        @activity_trigger(input_name="x")
        def work(x):
            return x
        """
    )
    assert [one.name for one in app.load().durable] == ["Orchestrate", "work"]
    assert [one.name for one in app.load().durable] == ["Orchestrate", "work"]


def test_an_app_of_package_level_decorators_alone_needs_no_app_object(app: App) -> None:
    app.write(
        """
        import azure.durable_functions as df

        @df.activity_trigger(input_name="x")
        def work(x):
            return x
        """
    )
    assert [one.name for one in app.load().durable] == ["work"]


def test_one_app_under_two_names_is_one_app(app: App) -> None:
    app.write("import azure.functions as func\napp = func.FunctionApp()\napplication = app\n")
    assert app.load().durable == []


def test_an_app_without_http_functions_is_loaded_without_a_warning(app: App, caplog: pytest.LogCaptureFixture) -> None:
    app.write("import azure.functions as func\napp = func.FunctionApp()\n")
    caplog.set_level(logging.INFO)
    app.load()
    assert caplog.messages == []


def test_only_the_functions_of_the_list_are_served(app: App) -> None:
    app.write(ONE_OF_EACH)
    app.write('{"version": "2.0", "functions": ["START", "work"]}', "host.json")
    found = app.load()
    assert [one.name for one in (*found.http, *found.durable)] == ["start", "work"]


def test_a_disabled_function_is_named_and_not_served(app: App) -> None:
    app.write(ONE_OF_EACH)
    found = app.load(**{"AzureWebJobs.work.Disabled": "true"})
    assert found.disabled == ["work"]
    assert [one.name for one in found.durable] == ["Orchestrate"]


def test_what_the_host_does_not_have_is_not_served_and_the_rest_is(app: App) -> None:
    app.write(
        ONE_OF_EACH
        + """
    @app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
    def nightly(timer): ...

    @app.route(route="queued")
    @app.queue_output(arg_name="out", queue_name="q", connection="C")
    def queued(req, out): ...

    @app.route(route="foreign")
    @app.durable_client_input(client_name="client", task_hub="Other")
    async def foreign(req, client): ...

    @app.route(route="unresolved")
    @app.durable_client_input(client_name="client", task_hub="%NOWHERE%")
    async def unresolved(req, client): ...

    @app.route(route="resolved")
    @app.durable_client_input(client_name="client", task_hub="%HUB%")
    async def resolved(req, client): ...

    @app.route(route="out", binding_arg_name="answer")
    def parameter(req, answer): ...
    """
    )
    found = app.load(HUB="Shop")
    assert {missing.name: missing.reason for missing in found.not_served} == {
        "nightly": "Perdure has no timerTrigger",
        "queued": "Perdure has no binding 'queue' for a function with httpTrigger (out)",
        "foreign": "its durable client asks for the task hub 'Other', this host serves 'shop'",
        "unresolved": "'%NOWHERE%' does not resolve to a value.",
        "parameter": "Perdure has no output parameter for the response (answer); return it",
    }
    assert [one.name for one in found.http] == ["start", "resolved"]


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_a_syntax_error_shows_the_line_and_the_place_in_it(app: App) -> None:
    app.write("import azure.functions as func\n\napp = func.FunctionApp(\n")
    text = app.problem()
    assert text.startswith(app.at(3) + "SyntaxError: '(' was never closed")
    line, caret = text.splitlines()[2:4]
    assert line[caret.index("^")] == "("


def test_a_syntax_error_in_another_file_of_the_app_shows_that_file(app: App) -> None:
    app.write("x = = 1\n", "steps.py")
    app.write("import steps\n")
    assert app.problem().startswith(app.at(1, "steps.py") + "SyntaxError: ")


def test_a_missing_module_shows_who_wants_it_and_how_to_install_it(app: App) -> None:
    app.write("import azure.functions as func\nimport surely_not_installed.part\n")
    text = app.problem()
    assert text.startswith(app.at(2) + "ModuleNotFoundError: No module named 'surely_not_installed'")
    assert f"{sys.executable} -m pip install surely_not_installed" in text
    app.write("surely-not-installed\n", "requirements.txt")
    assert f"-m pip install -r {app.root / 'requirements.txt'}" in app.problem()


def test_a_module_that_is_missing_in_a_package_is_not_installed_by_the_packages_name(app: App) -> None:
    app.write("import azure.surely_not_installed\n")
    text = app.problem()
    assert "pip install" in text
    assert "pip install azure" not in text


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("from azure.durable_functions.models.Task import TaskBase", "module"),
        ("from azure.durable_functions import Nonsense", "name"),
    ],
)
def test_what_perdure_does_not_have_of_durable_functions_is_not_to_be_installed(
    app: App, source: str, what: str
) -> None:
    app.write(source + "\n")
    app.write("azure-functions\n", "requirements.txt")
    text = app.problem()
    assert f"Perdure does not have this {what}" in text
    assert "docs/compatibility.md" in text
    assert "pip install" not in text


def test_a_missing_name_shows_the_import(app: App) -> None:
    app.write("from json import Nonsense\n")
    assert app.problem().startswith(app.at(1) + "ImportError: cannot import name 'Nonsense'")


def test_a_missing_variable_of_the_environment_shows_the_users_line(app: App) -> None:
    app.write("import os\nVALUE = os.environ['SURELY_NOT_SET']\n")
    assert app.problem().startswith(app.at(2) + "KeyError: 'SURELY_NOT_SET'")


def test_an_exception_shows_the_users_innermost_line_and_frames(app: App) -> None:
    app.write("def connect():\n    import json\n    return json.loads('{')\n", "database.py")
    app.write("import database\n\ndatabase.connect()\n")
    text = app.problem()
    assert text.startswith(app.at(3, "database.py") + "json.decoder.JSONDecodeError: ")
    assert f'File "{app.root / "function_app.py"}", line 3' in text
    assert "perdure" not in text


def test_an_app_that_ends_the_process_is_told(app: App) -> None:
    app.write("import sys\nsys.exit(3)\n")
    assert app.problem().startswith(app.at(2) + "SystemExit: 3")


def test_a_folder_without_the_module_is_told(app: App) -> None:
    assert f"{app.root} has no function_app.py, so it is no function app." in app.problem()


def test_an_app_of_function_json_folders_is_told_to_be_one(app: App) -> None:
    app.write("{}", "start/function.json")
    text = app.problem()
    assert "function.json files (programming model v1)" in text
    assert "decorators" in text


def test_a_module_without_an_app_is_told_with_the_documented_text(app: App) -> None:
    app.write("import azure.durable_functions as df\nbp = df.Blueprint()\n")
    text = app.problem()
    assert "ValueError: Could not find top level function app instances in function_app.py." in text
    assert "app = func.FunctionApp()" in text


def test_two_apps_are_told_with_the_documented_text_and_their_names(app: App) -> None:
    app.write("import azure.functions as func\none = func.FunctionApp()\ntwo = func.FunctionApp()\n")
    text = app.problem()
    assert "More than one FunctionApp or other top level function app instances are defined." in text
    assert "one, two" in text


def test_two_functions_of_one_name_are_told_with_both_places(app: App) -> None:
    app.write(
        """\
        import azure.functions as func
        app = func.FunctionApp()

        @app.route(route="a")
        def work(req): ...

        @app.activity_trigger(input_name="x")
        def work(x): ...
        """
    )
    text = app.problem()
    assert text.startswith(app.at(7) + "ValueError: Function work does not have a unique function name.")
    assert f"{app.root / 'function_app.py'}:4." in text


def test_two_activities_whose_names_differ_by_case_are_told(app: App) -> None:
    app.write(
        """\
        import azure.functions as func
        app = func.FunctionApp()

        @app.activity_trigger(input_name="x")
        def work(x): ...

        @app.activity_trigger(input_name="x", activity="WORK")
        def other(x): ...
        """
    )
    text = app.problem()
    assert text.startswith(app.at(7) + "ValueError: The activityTrigger WORK does not have a unique function name.")
    assert "upper and lower case make no difference" in text


def test_an_orchestrator_and_an_activity_may_differ_by_case_only(app: App) -> None:
    app.write(
        """\
        import azure.durable_functions as df
        app = df.DFApp()

        @app.orchestration_trigger(context_name="context")
        def Work(context):
            yield

        @app.activity_trigger(input_name="x")
        def work(x): ...
        """
    )
    assert [one.name for one in app.load().durable] == ["Work", "work"]


def test_a_name_in_the_app_and_among_the_package_level_ones_is_told(app: App) -> None:
    app.write(
        """\
        import azure.durable_functions as df
        app = df.DFApp()

        @app.activity_trigger(input_name="x")
        def work(x): ...

        @df.activity_trigger(input_name="y")
        def work(y): ...
        """
    )
    assert app.problem().startswith(app.at(7) + "ValueError: Function work does not have a unique function name.")


def test_a_function_without_a_trigger_is_told_with_its_place(app: App) -> None:
    app.write(
        """\
        import azure.functions as func
        app = func.FunctionApp()

        @app.function_name("lonely")
        def work(x): ...
        """
    )
    text = app.problem()
    assert text.startswith(app.at(4) + "ValueError: Function lonely does not have a trigger.")
    assert "Give it one" in text


def test_a_decorator_that_refuses_a_function_is_told_with_its_line(app: App) -> None:
    app.write(
        """\
        import azure.functions as func
        app = func.FunctionApp()

        @app.route(route="b")
        @app.route(route="a")
        def work(req): ...
        """
    )
    text = app.problem()
    # Which line a decorator's call has is told differently by Python 3.10: that of the `def`.
    assert text.startswith((app.at(4), app.at(6)))
    assert "ValueError: A trigger was already registered" in text
    assert "A function has one trigger" in text


def test_a_decorator_of_the_app_above_a_package_level_trigger_is_told(app: App) -> None:
    app.write(
        """\
        import azure.functions as func
        import azure.durable_functions as df
        app = func.FunctionApp()

        @app.function_name("Work")
        @df.activity_trigger(input_name="x")
        def work(x): ...
        """
    )
    text = app.problem()
    assert text.startswith((app.at(5), app.at(7)))
    assert "activity=" in text


def test_an_async_orchestrator_is_told_why_it_is_refused_and_nothing_else(app: App) -> None:
    app.write(
        """\
        import azure.durable_functions as df
        app = df.DFApp()

        @app.orchestration_trigger(context_name="context")
        async def work(context): ...
        """
    )
    text = app.problem()
    assert "is declared with `async def`" in text
    assert "A decorator refused this function." in text
    assert "directly above" not in text


def test_a_function_is_called_by_the_name_of_its_trigger(app: App) -> None:
    app.write(
        """\
        import azure.durable_functions as df
        app = df.DFApp()

        @app.activity_trigger(input_name="x", activity="Work")
        def do_work(x): ...
        """
    )
    (found,) = app.load().durable
    assert (found.name, found.called) == ("do_work", "Work")


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("request", "no binding gives the parameter 'request'; no parameter takes the binding 'req'"),
        ("req, extra", "no binding gives the parameter 'extra'"),
        ("", "no parameter takes the binding 'req'"),
    ],
)
def test_parameters_that_are_not_those_of_the_bindings_are_told(app: App, signature: str, expected: str) -> None:
    app.write(
        f"""\
        import azure.functions as func
        app = func.FunctionApp()

        @app.route(route="a")
        def work({signature}): ...
        """
    )
    assert app.problem().startswith(app.at(4) + f"Function work: {expected}.")


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("{id:nonsense}", "the route constraint 'nonsense' is unknown"),
        ("{id", "brace"),
    ],
)
def test_a_route_that_cannot_be_read_is_told_with_its_function(app: App, route: str, expected: str) -> None:
    app.write(
        f"""\
        import azure.functions as func
        app = func.FunctionApp()

        @app.route(route={route!r})
        def work(req): ...
        """
    )
    text = app.problem()
    assert text.startswith(app.at(4) + "Function work: ")
    assert expected in text


def test_a_route_of_the_hosts_own_paths_is_refused(app: App) -> None:
    app.write(
        """\
        import azure.functions as func
        app = func.FunctionApp()

        @app.route(route="admin/work")
        def work(req): ...
        """
    )
    assert app.load().http[0].route.template == "api/admin/work"
    app.write('{"version": "2.0", "extensions": {"http": {"routePrefix": ""}}}', "host.json")
    assert "begins with a path that belongs to the host" in app.problem()
