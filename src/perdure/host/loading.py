"""Load the user's app: run `function_app.py`, find its app object, and collect its functions."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from azure.durable_functions.app import begin_loading, default_blueprint
from azure.durable_functions.triggers import ACTIVITY_TRIGGER, ORCHESTRATION_TRIGGER, served_name
from azure.functions.decorators.function_app import DecoratorApi, Function, FunctionApp, FunctionRegister

from perdure.host.problems import AppProblem, Location, app_problem, function_location


def enter_app_folder(app_root: Path) -> None:
    """Make this process the app's: current folder and first place to import from are `app_root`."""
    os.chdir(app_root)
    root = str(app_root)
    if sys.path[:1] != [root]:
        sys.path.insert(0, root)


def find_script(app_root: Path, script: str) -> Path:
    """The file of the app's module. Raises AppProblem if there is none."""
    file = app_root / script
    if file.is_file():
        return file
    if any(app_root.glob("*/function.json")):
        raise AppProblem(
            f"{app_root} has no {script}. Its functions are described by function.json files (programming model v1), "
            "which Perdure does not serve yet.",
            advice=f"Declare the functions by decorators (programming model v2) in {script}.",
        )
    raise AppProblem(
        f"{app_root} has no {script}, so it is no function app.",
        advice="Give the app's folder (perdure start APP_DIR), or name the file by PYTHON_SCRIPT_FILE_NAME.",
    )


def load_functions(app_root: Path, script: str) -> list[Function]:
    """All functions of the app, those of the package-level decorators included, each with a trigger and its own name.

    Raises AppProblem, which shows the user's line.
    """
    file = find_script(app_root, script)
    begin_loading()
    module = _run_module(file, app_root)
    blueprint = default_blueprint()
    app = _find_app(module, file, needed=not _declared(blueprint))
    declared = [*_declared(app), *_declared(blueprint)]
    _refuse_shared_names(declared)
    app.register_functions(blueprint)
    with _without_auth_warning():
        try:
            return app.get_functions()
        except Exception as error:
            raise _indexing_problem(error, declared, app_root) from error


def _run_module(file: Path, app_root: Path) -> ModuleType:
    """Run the file as a module of its own name, under which the app's other modules may import it."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise app_problem(error, app_root) from error
    return module


def _find_app(module: ModuleType, file: Path, *, needed: bool) -> FunctionRegister:
    """The one app object of the module; an empty one if there is none and it is not `needed`."""
    apps = {id(value): value for value in vars(module).values() if isinstance(value, FunctionRegister)}
    if not apps and not needed:
        return FunctionApp()
    if not apps:
        raise AppProblem(
            f"ValueError: Could not find top level function app instances in {file.name}.",
            location=Location(str(file), 1),
            advice="Add one at module level: app = func.FunctionApp(), or df.DFApp(). Blueprints are registered on it: "
            "app.register_functions(bp).",
        )
    if len(apps) > 1:
        names = [name for name, value in vars(module).items() if isinstance(value, FunctionRegister)]
        raise AppProblem(
            f"ValueError: More than one {type(next(iter(apps.values()))).__name__} or other top level function app "
            "instances are defined.",
            location=Location(str(file), 1),
            advice=f"Keep one of {', '.join(names)}; make the others blueprints and register them on it.",
        )
    return next(iter(apps.values()))


def _declared(container: DecoratorApi) -> list[Function]:
    """What an app or blueprint has so far, complete or not. `get_functions`, which tells it publicly, may be called
    once in an app's life and refuses what is incomplete without telling where it is."""
    builders: list[Any] = container._function_builders  # pyright: ignore[reportPrivateUsage]
    return [builder._function for builder in builders]


def _refuse_shared_names(functions: list[Function]) -> None:
    """No two functions of one name; no two orchestrators, and no two activities, that a call could not tell apart."""
    names: dict[str, Function] = {}
    called: dict[tuple[str, str], Function] = {}
    for function in functions:
        name = function.get_function_name() or ""
        _refuse_second(names.setdefault(name, function), function, f"Function {name}", "")
        trigger = function.get_trigger()
        if trigger is not None and trigger.type in (ORCHESTRATION_TRIGGER, ACTIVITY_TRIGGER):
            callee = served_name(function)
            first = called.setdefault((trigger.type, callee.lower()), function)
            _refuse_second(first, function, f"The {trigger.type} {callee}", "; upper and lower case make no difference")


def _refuse_second(first: Function, second: Function, what: str, rule: str) -> None:
    if first is not second:
        raise AppProblem(
            f"ValueError: {what} does not have a unique function name. Please change @app.function_name() or the "
            "function method name to be unique.",
            location=function_location(second.get_user_function()),
            advice=f"The name is taken by the function at {function_location(first.get_user_function())}{rule}.",
        )


def _indexing_problem(error: Exception, functions: list[Function], app_root: Path) -> AppProblem:
    """The error of `get_functions`, whose traceback does not touch the user's code, at the function it names."""
    problem = app_problem(error, app_root)
    for function in functions:
        if f"Function {function.get_function_name()} " in str(error):
            problem.location = function_location(function.get_user_function())
            problem.detail = ""
    if "does not have a trigger" in str(error):
        problem.advice = "Give it one: route, orchestration_trigger or activity_trigger."
    return problem


@contextmanager
def _without_auth_warning() -> Generator[None, None, None]:
    """Leave out a warning about HTTP keys, which azure.functions gives for every app without HTTP functions."""

    def wanted(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Auth level is not applied")

    root = logging.getLogger()
    root.addFilter(wanted)
    try:
        yield
    finally:
        root.removeFilter(wanted)
