"""A host of the benchmarks' app, without an HTTP server: what is measured is asked of it by the client that user
functions get."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from azure.durable_functions import DurableOrchestrationClient
from msgspec import Struct

from perdure.bench.counting import CommitLog, counted
from perdure.bench.stores import BenchStore
from perdure.host.app import Host, claim_store, load_app
from perdure.host.indexing import AppFunctions
from perdure.host.settings import CommandLine, Settings, read_settings

APP = Path(__file__).parent / "app"
_URL = "http://localhost"
_GRACE_SECONDS = 60.0
_WAIT_SECONDS = 3600.0


class Served(Struct, frozen=True):
    host: Host
    functions: AppFunctions
    commits: CommitLog


def app_settings(store: BenchStore) -> Settings:
    return read_settings(APP, CommandLine(store=store.url), {})


@contextmanager
def served(store: BenchStore) -> Generator[Served]:
    """A host on `store`, ready; it is stopped at the end, when all turns that were due are durable."""
    folder = Path.cwd()
    settings = app_settings(store)
    opened = claim_store(settings)
    try:
        functions = load_app(settings, 0)
        commits = CommitLog()
        host = Host(settings, functions, counted(opened, commits), _URL)
        host.start()
        try:
            yield Served(host, functions, commits)
        finally:
            host.stop(_GRACE_SECONDS)
            host.close()
    finally:
        opened.close()
        os.chdir(folder)  # loading the app has left it


class Caller:
    """A client of `host`.

    `run` and `completed` raise RuntimeError unless the orchestration completes with the JSON text `output`.
    """

    def __init__(self, host: Host) -> None:
        self.client: DurableOrchestrationClient = host.connect()
        self.hub = host.hub

    async def run(self, name: str, input: Any, output: str) -> None:
        """Start an orchestration and wait for its end."""
        await self.completed(await self.client.start_new(name, client_input=input), output)

    async def completed(self, instance_id: str, output: str) -> None:
        row = await self.hub.wait(instance_id, _WAIT_SECONDS)
        if row.status != "Completed" or row.output != output:
            raise RuntimeError(f"instance {instance_id} is {row.status} with output {row.output}, not {output}")
