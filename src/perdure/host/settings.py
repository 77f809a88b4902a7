"""What can be set about a host, and which source wins.

In order: the command line, `PERDURE_*` variables, app settings (the environment, to which local.settings.json adds what
it lacks), host.json, the default. docs/host.md has the table.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Literal, TypeVar

from msgspec import Struct

from perdure.host.configuration import Configuration, read_host_json
from perdure.host.default_store import remembered_hub_name
from perdure.host.local_settings import LocalHost, apply_local_settings
from perdure.host.problems import SettingsProblem

T = TypeVar("T")
log = logging.getLogger("perdure.host")

Synchronous = Literal["full", "normal", "off"]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7071
DEFAULT_GRACE_SECONDS = 30.0
DEFAULT_SCRIPT = "function_app.py"


class CommandLine(Struct, frozen=True):
    """What was typed; None where nothing was."""

    host: str | None = None
    port: int | None = None
    store: str | None = None
    insecure: bool | None = None
    wait: bool | None = None
    grace_seconds: float | None = None
    synchronous: Synchronous | None = None


class Settings(Struct, frozen=True):
    app_root: Path
    script: str
    """File name of the app's module, in `app_root`."""
    host: str
    port: int
    """0 takes a free one."""
    insecure: bool
    store: str | None
    """URL; None is the default store beside the app."""
    synchronous: Synchronous
    wait: bool
    grace_seconds: float
    hub: str
    route_prefix: str
    """Without slashes at its ends; may be empty."""
    functions: frozenset[str] | None
    """Lower-case names of the only functions to serve; None serves all."""
    max_activities: int
    threads: int
    """For plain functions of the user."""


class AppSettings:
    """The environment as the source of app settings: names are looked up without regard to case, `A:B` is `A__B`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._values = {_folded(name): value for name, value in environment.items()}

    def get(self, name: str) -> str | None:
        return self._values.get(_folded(name))

    def resolve(self, text: str) -> str:
        """`text` with each `%NAME%` replaced. Raises ValueError with the text that Azure Functions gives."""

        def value_of(match: re.Match[str]) -> str:
            value = self.get(match[1])
            if value is None:
                raise ValueError(f"'{match[0]}' does not resolve to a value.")
            return value

        return re.sub(r"%([^%]+)%", value_of, text)

    def is_disabled(self, function: str) -> bool:
        return (self.get(f"AzureWebJobs.{function}.Disabled") or "").strip().lower() in ("true", "1")


def _folded(name: str) -> str:
    return name.replace("__", ":").lower()


def read_settings(app_root: Path, command_line: CommandLine, environment: MutableMapping[str, str]) -> Settings:
    """Everything that is set about the app in `app_root`; adds local.settings.json to `environment`.

    Raises SettingsProblem.
    """
    if not app_root.is_dir():
        raise SettingsProblem(
            f"{app_root} is not a folder.", advice="Give the folder that holds function_app.py, or run it from there."
        )
    local = apply_local_settings(app_root, environment)
    app_settings = AppSettings(environment)
    host_json = read_host_json(app_root, environment)
    _name_unused_storage(host_json)
    # One turn runs at a time, so whatever the limit is, it is kept.
    host_json.positive("extensions:durableTask:maxConcurrentOrchestratorFunctions")
    processors = os.cpu_count() or 1
    store: str | None = _first(command_line.store, app_settings.get("PERDURE_STORE"), default=None)
    only = host_json.texts("functions")
    return Settings(
        app_root=app_root,
        script=_script(app_settings),
        host=_first(command_line.host, app_settings.get("PERDURE_HOST"), local.address, default=DEFAULT_HOST),
        port=_port(command_line, app_settings, local),
        insecure=_flag(command_line.insecure, app_settings, "PERDURE_INSECURE"),
        store=store,
        synchronous=_synchronous(command_line, app_settings),
        wait=_flag(command_line.wait, app_settings, "PERDURE_WAIT"),
        grace_seconds=_grace(command_line, app_settings),
        hub=_given_hub(app_settings, host_json)
        or (remembered_hub_name(app_root) if store is None else None)
        or default_hub_name(app_root.name),
        route_prefix=_first(host_json.text("extensions:http:routePrefix"), default="api").strip("/"),
        functions=frozenset(name.lower() for name in only) if only else None,
        max_activities=host_json.positive("extensions:durableTask:maxConcurrentActivityFunctions") or 10 * processors,
        threads=_read(app_settings, "PYTHON_THREADPOOL_THREAD_COUNT", _positive, "a whole number above 0")
        or min(32, processors + 4),
    )


def _first(*candidates: T | None, default: T) -> T:
    return next((value for value in candidates if value is not None), default)


def _script(app_settings: AppSettings) -> str:
    script = app_settings.get("PYTHON_SCRIPT_FILE_NAME") or DEFAULT_SCRIPT
    if Path(script).name != script or not script.endswith(".py"):
        raise SettingsProblem(
            f"PYTHON_SCRIPT_FILE_NAME is {script!r}, which is not the name of a Python file.",
            advice="Give a name like function_app.py; the file must be in the app's folder.",
        )
    return script


def _port(command_line: CommandLine, app_settings: AppSettings, local: LocalHost) -> int:
    if command_line.port is not None:
        return command_line.port
    given = "a whole number from 0 to 65535"
    port = _read(app_settings, "PERDURE_PORT", _port_number, given)
    if port is None and local.port is not None:
        port = _parsed("Host.LocalHttpPort in local.settings.json", local.port, _port_number, given)
    return DEFAULT_PORT if port is None else port


def _grace(command_line: CommandLine, app_settings: AppSettings) -> float:
    given = _read(app_settings, "PERDURE_GRACE", _seconds, "a number of seconds, 0 or above")
    return _first(command_line.grace_seconds, given, default=DEFAULT_GRACE_SECONDS)


def _synchronous(command_line: CommandLine, app_settings: AppSettings) -> Synchronous:
    given = _read(app_settings, "PERDURE_SYNCHRONOUS", _synchronous_value, "full, normal or off")
    return _first(command_line.synchronous, given, default="full")


def _flag(typed: bool | None, app_settings: AppSettings, name: str) -> bool:
    return _first(typed, _read(app_settings, name, _boolean, "true or false"), default=False)


def _read(app_settings: AppSettings, name: str, parse: Callable[[str], T], expected: str) -> T | None:
    text = app_settings.get(name)
    return None if text is None or not text.strip() else _parsed(name, text.strip(), parse, expected)


def _parsed(name: str, text: str, parse: Callable[[str], T], expected: str) -> T:
    try:
        return parse(text)
    except ValueError:
        raise SettingsProblem(f"{name} is {text!r}; it must be {expected}.", advice="Correct it.") from None


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _port_number(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def _boolean(text: str) -> bool:
    match text.lower():
        case "true" | "1" | "yes":
            return True
        case "false" | "0" | "no":
            return False
        case _:
            raise ValueError


def _synchronous_value(text: str) -> Synchronous:
    match text.lower():
        case "full":
            return "full"
        case "normal":
            return "normal"
        case "off":
            return "off"
        case _:
            raise ValueError


# --- the hub's name ---------------------------------------------------------------------------------------------------

_STORAGE_TYPE = "extensions:durableTask:storageProvider:type"

# The strict rule is that of the storage provider that an app has by default: a name that breaks it would be refused in
# Azure. Apps written for another provider have names that this one allows.
_HUB_RULES = {
    "azurestorage": (
        r"[A-Za-z][A-Za-z0-9]{2,44}",
        "contain only alphanumeric characters, start with a letter, and have length between 3 and 45",
    ),
    "other": (
        r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}",
        "contain only alphanumeric characters, '-' and '_', start with a letter or digit, and have at most 100 of them",
    ),
}


def _given_hub(app_settings: AppSettings, host_json: Configuration) -> str | None:
    given = app_settings.get("PERDURE_HUB_NAME")
    if given is None:
        given = host_json.text("extensions:durableTask:hubName")
    if given is None:
        return None
    try:
        name = app_settings.resolve(given)
    except ValueError as error:
        raise SettingsProblem(
            f"The task hub's name: {error}", advice="Set this app setting, in the environment or local.settings.json."
        ) from None
    storage = (host_json.text(_STORAGE_TYPE) or "azurestorage").lower()
    pattern, rule = _HUB_RULES["azurestorage" if storage == "azurestorage" else "other"]
    if not re.fullmatch(pattern, name):
        raise SettingsProblem(
            f"Task hub name '{name}' should {rule}.",
            advice="Change extensions.durableTask.hubName in host.json, or what overrides it.",
        )
    return name


def default_hub_name(folder: str) -> str:
    """A valid name for a hub, made from the name of the app's folder."""
    name = re.sub(r"[^A-Za-z0-9]", "", folder)
    if not name:
        return "DefaultTaskHub"
    if name[0].isdigit():
        name = f"t{name}"
    name = name[:45]
    return name if len(name) >= 3 else f"{name}Hub"


def _name_unused_storage(host_json: Configuration) -> None:
    storage = host_json.text(_STORAGE_TYPE)
    if storage:
        log.warning(
            "host.json asks for the storage provider '%s', which Perdure does not use. Choose a store by --store.",
            storage,
        )
