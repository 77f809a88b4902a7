"""Assemble a host: settings, store, the app's functions, engine, HTTP. The one module that knows every room."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from azure.durable_functions.client import connect_client
from azure.durable_functions.registry import Arguments, Registry, build_registry
from azure.functions.decorators.function_app import Function

from perdure import __version__
from perdure.core.errors import InvalidRequest, StoreError, StoreHeld
from perdure.core.protocols import TaskHub
from perdure.engine import Engine, EngineSettings
from perdure.host.console import Console, functions_text, make_printable
from perdure.host.default_store import prepare_default_store
from perdure.host.gateway import Gateway
from perdure.host.history_view import history_rows
from perdure.host.http_functions import HttpFunctions
from perdure.host.hub import LocalHub
from perdure.host.indexing import AppFunctions, index_functions
from perdure.host.injection import Injector
from perdure.host.links import WEBHOOK_PATH, client_binding
from perdure.host.loading import enter_app_folder, find_script, load_functions
from perdure.host.management import ManagementApi
from perdure.host.problems import SettingsProblem, StartProblem
from perdure.host.server import Address, HttpServer, take_address
from perdure.host.settings import AppSettings, CommandLine, Settings, read_settings
from perdure.host.signals import StopSignals
from perdure.host.user_code import UserCode
from perdure.runtime import ThreadRuntime, tune_interpreter
from perdure.store.api import Store
from perdure.store.memory import MemoryStore
from perdure.store.urls import open_store

log = logging.getLogger("perdure.host")

_HELD_POLL_SECONDS = 0.25
_LAST_REQUESTS_SECONDS = 1.0
"""What requests get to end, at least, however much of the grace time is left."""


class StoreInUse(StartProblem):
    """Another process serves the store."""

    exit_code = 3


def run(app_root: Path, command_line: CommandLine) -> int:
    """Serve the app in `app_root` until a signal comes. The exit code. Raises StartProblem."""
    make_printable()
    console = Console(sys.stdout)
    with ExitStack() as leave:
        console.attach()
        leave.callback(console.detach)
        signals = leave.enter_context(StopSignals())
        settings = read_settings(app_root, command_line, os.environ)
        # A folder that is no app gets no store.
        find_script(settings.app_root, settings.script)
        store = claim_store(settings)
        leave.callback(store.close)
        address = take_address(settings.host, settings.port, insecure=settings.insecure)
        leave.callback(address.listener.close)
        functions = load_app(settings, address.port)
        console.yield_to_app()
        host = Host(settings, functions, store, address.url)
        server = HttpServer(host.gateway, address)
        host.start()
        leave.callback(host.close)
        server.start()
        signals.ask_first()
        console.show(_banner(settings, functions, address))
        signals.wait()
        console.show(
            f"Stopping. What runs gets {settings.grace_seconds:g} s to end; the rest runs again at the next start. "
            "Ctrl-C again ends at once."
        )
        deadline = time.monotonic() + settings.grace_seconds
        host.stop(settings.grace_seconds)
        server.stop(max(_LAST_REQUESTS_SECONDS, deadline - time.monotonic()))
    return 0


def _banner(settings: Settings, functions: AppFunctions, address: Address) -> str:
    return "\n".join(
        [
            f"Perdure {__version__}",
            f"App:   {settings.app_root}",
            f"Hub:   {settings.hub}",
            f"Store: {store_url(settings)}",
            "",
            functions_text(functions, address.url),
            f"Listening on {address.url}. Ctrl-C stops.",
            "",
        ]
    )


# --- the store -------------------------------------------------------------------------------------------------------


def store_url(settings: Settings) -> str:
    return settings.store or prepare_default_store(settings.app_root, settings.hub)


def claim_store(settings: Settings) -> Store:
    """Open the store as the one process that serves it; wait for that if the settings say so. Raises StartProblem."""
    waiting = False
    while True:
        try:
            return _open_claimed(settings)
        except StoreHeld as error:
            if not settings.wait:
                raise StoreInUse(
                    str(error),
                    advice="Stop that process, choose another store by --store, or add --wait to go on when it ends.",
                ) from error
            if not waiting:
                log.info("%s Waiting for its end.", error)
                waiting = True
            time.sleep(_HELD_POLL_SECONDS)
        except InvalidRequest as error:
            raise SettingsProblem(str(error), advice="Correct --store, or PERDURE_STORE.") from error
        except StoreError as error:
            raise StartProblem(
                f"The store {store_url(settings)} cannot be opened: {error}",
                advice="Correct what the message names, or choose another store by --store.",
            ) from error


def _open_claimed(settings: Settings) -> Store:
    store = open_store(
        store_url(settings),
        hub=settings.hub,
        base_dir=settings.app_root,
        synchronous=_SYNCHRONOUS[settings.synchronous],
    )
    try:
        # A registration tells who holds the store. The engine makes its own later and is not refused any more, as
        # the store stays with this process until it is closed.
        registered = store.register_host(time.time_ns() // 1000, int.from_bytes(os.urandom(8), "big"))
        store.end_host(registered.id)
    except BaseException:
        store.close()
        raise
    return store


_SYNCHRONOUS: Any = {"full": "FULL", "normal": "NORMAL", "off": "OFF"}


# --- the app ---------------------------------------------------------------------------------------------------------


def load_app(settings: Settings, port: int) -> AppFunctions:
    """Load the user's module in this process, which becomes the app's. Raises AppProblem."""
    os.environ.setdefault("WEBSITE_HOSTNAME", f"localhost:{port}")
    os.environ["AZURE_FUNCTIONS_ENVIRONMENT"] = "Development"
    enter_app_folder(settings.app_root)
    functions = load_functions(settings.app_root, settings.script)
    return index_functions(functions, settings, AppSettings(os.environ))


class Host:
    """An app and the engine that runs it. `url` is where the host is reached; `gateway` is what answers there."""

    def __init__(self, settings: Settings, functions: AppFunctions, store: Store, url: str) -> None:
        self._runtime = ThreadRuntime(self._internal_error)
        injector = Injector(self.connect, settings.app_root)
        registry = _registry(functions, injector)
        self._engine = Engine(
            self._runtime,
            store,
            registry.orchestrators,
            registry.activities,
            EngineSettings(
                activity_slots=settings.max_activities,
                activity_threads=settings.threads,
                poll_seconds=0.0 if isinstance(store, MemoryStore) else EngineSettings().poll_seconds,
            ),
        )
        self.hub: TaskHub = LocalHub(settings.hub, self._runtime, store, self._engine)
        self._binding = client_binding(url + WEBHOOK_PATH, settings.hub)
        user_code = UserCode(self._runtime.pool("http", settings.threads), self._runtime.async_pool("user"))
        self.gateway = Gateway(
            host_id=settings.hub,
            version=__version__,
            management=ManagementApi(self.hub),
            functions=HttpFunctions(functions.http, user_code, injector),
            problems=[
                f"The '{missing.name}' function is not served: {missing.reason}" for missing in functions.not_served
            ],
            local=not settings.insecure,
        )

    def _internal_error(self, error: BaseException) -> None:
        """On the home thread, after a call on it raised: drop what is in memory and read it anew, as after any fault.

        If that fails too, nothing in this process can be relied on: the next start reads what is durable.
        """
        try:
            self._engine.commits.end_lane(error)
        except BaseException:
            log.critical("internal error while recovering from an internal error; the process ends", exc_info=True)
            os._exit(1)

    def connect(self) -> Any:
        """A durable client, as functions get it."""
        return connect_client(self._binding, self.hub, history_rows)

    def start(self) -> None:
        """Returns once the engine has read what is due."""
        running = threading.Event()
        tune_interpreter()
        self._runtime.start()
        self._runtime.post(self._engine.start, running.set)
        running.wait()

    def stop(self, grace_seconds: float) -> None:
        """Take nothing new; return when what runs has ended, or after the grace time."""
        self.gateway.begin_stopping()
        stopped = threading.Event()
        self._runtime.post(self._engine.stop, grace_seconds, stopped.set)
        stopped.wait()

    def close(self) -> None:
        """Let the threads go, after `stop`."""
        self._runtime.close()


def _registry(functions: AppFunctions, injector: Injector) -> Registry:
    by_function = {id(durable.function): durable for durable in functions.durable}

    def arguments(function: Function) -> Arguments | None:
        durable = by_function[id(function)]
        if durable.injection.empty:
            return None
        return lambda: injector.arguments(durable.name, durable.injection, {})

    return build_registry([durable.function for durable in functions.durable], arguments)
