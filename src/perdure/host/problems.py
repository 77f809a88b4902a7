"""What keeps the host from starting, told so that whoever typed the command can act on it.

A problem is printed as a whole by `str()`: first where it is (the user's own file and line), then what is wrong, then
what to do. `user_traceback` is for errors of functions that run: it leaves out the frames between the host and the
user's code.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from perdure.core.errors import PerdureError, UserCodeError

_DECORATOR_PACKAGES = tuple(os.path.join("azure", name, "") for name in ("functions", "durable_functions"))
_PERDURE_ROOT = str(Path(__file__).resolve().parent.parent) + os.sep


class Location(NamedTuple):
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class StartProblem(PerdureError):
    """Why the host cannot start. `detail` is quoted below the message (source lines, a traceback)."""

    exit_code = 1

    def __init__(self, message: str, *, advice: str, location: Location | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.location = location
        self.detail = detail

    def __str__(self) -> str:
        head = f"{self.location}: {self.message}" if self.location else self.message
        return "\n\n".join(part for part in (head, self.detail.rstrip("\n"), self.advice) if part)


class SettingsProblem(StartProblem):
    """A setting that cannot be used: on the command line, in the environment, or in a settings file."""


class AppProblem(StartProblem, UserCodeError):
    """The app's own code cannot be used as it is."""


def app_problem(error: BaseException, app_root: Path) -> AppProblem:
    """The problem that an exception from importing or indexing the app stands for; `error` becomes no cause of it."""
    if isinstance(error, SyntaxError):
        return _syntax_problem(error)
    location = _location(error, app_root)
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    return AppProblem(
        message, location=location, detail=user_traceback(error), advice=_advice(error, app_root, location)
    )


def function_location(function: Callable[..., Any]) -> Location | None:
    """Where the user wrote the function, below whatever a decorator put around it."""
    for attribute in ("orchestrator_function", "entity_function", "client_function"):
        function = getattr(function, attribute, function)
    code = getattr(inspect.unwrap(function), "__code__", None)
    return Location(code.co_filename, code.co_firstlineno) if code is not None else None


def user_traceback(error: BaseException) -> str:
    """The traceback of `error` from the user's first frame on."""
    start = error.__traceback__
    while start is not None and _is_ours(start.tb_frame.f_code.co_filename):
        start = start.tb_next
    return "".join(traceback.format_exception(type(error), error, start or error.__traceback__))


def _syntax_problem(error: SyntaxError) -> AppProblem:
    location = Location(error.filename, error.lineno or 1) if error.filename else None
    detail = ""
    if error.text is not None:
        line = error.text.rstrip("\n")
        detail = f"    {line}"
        if error.offset is not None and error.offset > 0:
            # Tabs are kept, so that the caret stands below its character whatever their width.
            blanks = "".join("\t" if char == "\t" else " " for char in line[: error.offset - 1])
            detail += f"\n    {blanks}^"
    return AppProblem(
        f"{type(error).__name__}: {error.msg}",
        location=location,
        detail=detail,
        advice="Correct this line and start again.",
    )


def _advice(error: BaseException, app_root: Path, location: Location | None) -> str:
    if isinstance(error, ImportError) and f"{error.name}.".startswith("azure.durable_functions."):
        what = "module" if isinstance(error, ModuleNotFoundError) else "name"
        return (
            f"Perdure does not have this {what}: check the spelling. What of Durable Functions it does not have yet is "
            "listed in docs/compatibility.md."
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        # A dotted name is missing in a package that is there, so the first part of it is not what is to be installed.
        package = "DISTRIBUTION" if "." in error.name else error.name
        install = f"{sys.executable} -m pip install "
        install += f"-r {app_root / 'requirements.txt'}" if (app_root / "requirements.txt").is_file() else package
        return (
            f"This Python cannot find the module {error.name!r}. Modules of the app are looked for in {app_root}; "
            f"others have to be installed:\n  {install}"
        )
    if isinstance(error, ImportError):
        return "The module was found, but not this name in it. Check the spelling and the installed version."
    if isinstance(error, SystemExit):
        return "The app must not end the process while it is imported: remove the call."
    if _raised_by_decorator(error):
        return _decorator_advice(error)
    return "The app raised this while it was loaded. Correct it and start again."


def _decorator_advice(error: BaseException) -> str:
    if isinstance(error, IndexError):
        # An app of azure.functions looks for the function among its own when one of its decorators stands above a
        # builder, and there are none.
        return (
            "A decorator of an app or blueprint cannot stand above a trigger of azure.durable_functions itself. Take "
            "the trigger of the app too; a name can be given by orchestration= or activity=."
        )
    if "trigger was already registered" in str(error):
        return "A function has one trigger: keep one of them, and make the others functions of their own."
    return "A decorator refused this function. What Perdure does not have yet is listed in docs/compatibility.md."


def _location(error: BaseException, app_root: Path) -> Location | None:
    """The user's innermost line; that of whatever is not ours, where no file of the app is involved."""
    places = [Location(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    of_app = [place for place in places if _is_of_app(place.file, app_root)]
    foreign = [place for place in places if not _is_ours(place.file)]
    return (of_app or foreign or [None])[-1]


def _raised_by_decorator(error: BaseException) -> bool:
    innermost = _innermost(error.__traceback__)
    return innermost is not None and _inside(innermost, _DECORATOR_PACKAGES)


def _innermost(trace: TracebackType | None) -> str | None:
    file = None
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return file


def _inside(file: str, packages: tuple[str, ...]) -> bool:
    return any(os.sep + package in file for package in packages)


def _is_ours(file: str) -> bool:
    return file.startswith(("<frozen", _PERDURE_ROOT)) or _inside(file, _DECORATOR_PACKAGES)


def _is_of_app(file: str, app_root: Path) -> bool:
    """Whether `file` is the user's. An environment inside the app's folder is not, nor is `<frozen os>`."""
    if file.startswith("<"):
        return False
    try:
        parts = Path(file).resolve().relative_to(app_root.resolve()).parts
    except (ValueError, OSError):
        return False
    return not {"site-packages", "dist-packages"} & set(parts)
