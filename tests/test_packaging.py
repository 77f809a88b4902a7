"""What is built and handed out: its contents, and that it works where nothing else is.

The wheel is installed into two empty environments outside the clone, one with the lowest versions that pyproject.toml
allows, one with the newest that pip finds for this Python; the quickstart runs in both.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from fix_host import HostProcess
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
GREETINGS = ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=outside_environment())
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def outside_environment() -> dict[str, str]:
    """The environment of a user who has never seen the clone."""
    of_the_clone = ("PYTHON", "VIRTUAL_ENV", "PERDURE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(of_the_clone)}


# --- contents --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source distribution and the wheel made from it."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, cwd=ROOT)
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel_files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def sdist_files(built: Path) -> set[str]:
    """Paths below the archive's one directory."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def source_files() -> set[str]:
    """Everything below src/, by the path it has in an import, byte code aside."""
    return {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_whole_source_and_nothing_else(wheel_files: set[str]) -> None:
    assert {file for file in wheel_files if ".dist-info/" not in file} == source_files()


def test_the_source_distribution_holds_the_source_and_no_tests(sdist_files: set[str]) -> None:
    assert {file for file in sdist_files if file.startswith("src/")} == {f"src/{file}" for file in source_files()}
    assert {file.split("/")[0] for file in sdist_files} == {
        "src",
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        ".gitignore",
    }


def test_queries_and_type_markers_are_in_the_wheel(wheel_files: set[str]) -> None:
    assert {file for file in source_files() if file.endswith(".sql")}
    assert {file for file in source_files() if file.endswith(".sql")} <= wheel_files
    assert {"perdure/py.typed", "azure/durable_functions/py.typed"} <= wheel_files


def test_the_azure_namespace_is_left_to_all_who_share_it(wheel_files: set[str]) -> None:
    assert {file for file in wheel_files if file.startswith("azure/") and file.count("/") == 1} == set()


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_the_wheel_fits_every_python_from_3_10_on(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert metadata(wheel)["Requires-Python"] == ">=3.10"
    assert metadata(wheel)["License-Expression"] == "MIT"


# --- use -------------------------------------------------------------------------------------------------------------


def requirements(wheel: Path) -> list[Requirement]:
    """What the wheel needs, extras aside."""
    needed = [Requirement(line) for line in metadata(wheel).get_all("Requires-Dist", [])]
    return [requirement for requirement in needed if requirement.marker is None]


def lower_bound(requirement: Requirement) -> str:
    (bound,) = (specifier.version for specifier in requirement.specifier if specifier.operator == ">=")
    return bound


@pytest.fixture(scope="module")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make an environment that holds the wheel, its dependencies at the `lowest` or `newest` end of their range."""

    @functools.cache
    def install(end: str) -> Path:
        directory = tmp_path_factory.mktemp(f"{end}-environment")
        run(sys.executable, "-m", "venv", "--without-pip", directory, cwd=directory)
        wanted = [str(wheel)]
        if end == "lowest":
            wanted += [f"{needed.name}=={lower_bound(needed)}" for needed in requirements(wheel)]
        pip = ("-m", "pip", "--python", directory, "install", "--quiet", "--disable-pip-version-check")
        run(sys.executable, *pip, *wanted, cwd=directory)
        return directory / ("Scripts" if sys.platform == "win32" else "bin")

    return install


@pytest.fixture(params=["lowest", "newest"])
def installed(request: pytest.FixtureRequest, install: Callable[[str], Path]) -> Path:
    """The directory of the programs of an environment; made once for all tests."""
    return install(request.param)


def test_lower_bounds_are_given_and_upper_bounds_are_not(wheel: Path) -> None:
    assert {needed.name for needed in requirements(wheel)} >= {"azure-functions", "msgspec", "apsw"}
    for needed in requirements(wheel):
        assert [specifier.operator for specifier in needed.specifier] == [">="], needed


REGISTER = """
import json
import azure.functions as func
import azure.durable_functions as df
import perdure

def one_of_each(app):
    @app.orchestration_trigger(context_name="context")
    def orchestrator(context):
        yield context.call_activity("activity")

    @app.activity_trigger(input_name="value")
    def activity(value: str) -> str:
        return value

    @app.route(route="start")
    @app.durable_client_input(client_name="client")
    async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> str:
        return "ok"

    return app

def through_blueprint(app, blueprint):
    app.register_functions(one_of_each(blueprint))
    return app

apps = {
    "FunctionApp": one_of_each(func.FunctionApp()),
    "DFApp": one_of_each(df.DFApp()),
    "func.Blueprint": through_blueprint(func.FunctionApp(), func.Blueprint()),
    "df.Blueprint": through_blueprint(func.FunctionApp(), df.Blueprint()),
}
print(json.dumps({
    "functions": {
        kind: {f.get_function_name(): f.get_trigger().type for f in app.get_functions()} for kind, app in apps.items()
    },
    "files": [perdure.__file__, df.__file__],
}))
"""


def test_decorators_register_on_every_kind_of_app(installed: Path, tmp_path: Path) -> None:
    answer = json.loads(run(installed / "python", "-c", REGISTER, cwd=tmp_path))
    expected = {"orchestrator": "orchestrationTrigger", "activity": "activityTrigger", "start": "httpTrigger"}
    assert answer["functions"] == dict.fromkeys(["FunctionApp", "DFApp", "func.Blueprint", "df.Blueprint"], expected)
    assert all(Path(file).is_relative_to(installed.parent) for file in answer["files"])


def test_the_command_knows_its_version(installed: Path, wheel: Path, tmp_path: Path) -> None:
    assert run(installed / "perdure", "--version", cwd=tmp_path).split()[-1] == metadata(wheel)["Version"]


def test_the_quickstart_runs_outside_the_clone(installed: Path, tmp_path: Path) -> None:
    app = shutil.copytree(
        ROOT / "examples" / "quickstart",
        tmp_path / "quickstart",
        ignore=shutil.ignore_patterns(".perdure", "__pycache__"),
    )
    host = HostProcess(
        app, tmp_path / "host.log", ("--port", "0"), {"PYTHONPATH": ""}, program=(str(installed / "perdure"),)
    )
    try:
        started = host.wait_until_ready().client.post("/api/startOrchestrator")
        assert started.status_code == 202, started.text
        assert host.wait_for_end(started.json()["id"])["output"] == GREETINGS
        assert host.stop() == 0
    finally:
        host.close()
