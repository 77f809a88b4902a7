"""The public face: names, and nothing that the app did not ask for."""

from __future__ import annotations

import os
import subprocess
import sys

import azure.durable_functions as df


def test_every_exported_name_is_there() -> None:
    assert sorted(df.__all__) == df.__all__
    assert all(hasattr(df, name) for name in df.__all__)


def test_the_documented_names_can_be_imported() -> None:
    from azure.durable_functions import (
        Blueprint,
        DFApp,
        DurableOrchestrationClient,
        DurableOrchestrationContext,
        OrchestrationRuntimeStatus,
        RetryOptions,
        activity_trigger,
        durable_client_input,
        orchestration_trigger,
    )

    documented = {
        Blueprint,
        DFApp,
        DurableOrchestrationClient,
        DurableOrchestrationContext,
        OrchestrationRuntimeStatus,
        RetryOptions,
        activity_trigger,
        durable_client_input,
        orchestration_trigger,
    }
    assert {item.__name__ for item in documented} <= set(df.__all__)


def test_importing_it_loads_no_more_of_perdure_than_the_core() -> None:
    code = (
        "import sys, azure.durable_functions\n"
        "print(*(name for name in sys.modules if name.split('.')[0] in ('perdure', 'aiohttp', 'uvicorn', 'apsw')))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)

    foreign = [name for name in loaded.stdout.split() if not name.startswith("perdure.core") and name != "perdure"]
    assert "perdure.core" in loaded.stdout
    assert foreign == []
