"""The two published texts that Perdure was built after: their code runs as it stands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fix_host import StartHost, write_app

QUICKSTART = Path(__file__).resolve().parent.parent.parent / "examples" / "quickstart"

# The body of the orchestrator is the published one, with the `try` and `except` that its text describes.
PIPELINE = """
    import azure.functions as func
    import azure.durable_functions as df

    app = df.DFApp()


    @app.orchestration_trigger(context_name="context")
    def orchestrate_pipeline(context: df.DurableOrchestrationContext):
        try:
            dataset = yield context.call_activity('DownloadData')
            outputs = yield context.call_activity('Process', dataset)
            summary = yield context.call_activity('Summarize', outputs)
            return summary
        except Exception:
            yield context.call_activity('CleanUp')
            return "Something went wrong"


    @app.activity_trigger(input_name="nothing", activity="DownloadData")
    def download(nothing) -> list:
        return [1, 2, 3]


    @app.activity_trigger(input_name="dataset", activity="Process")
    def process(dataset: list) -> list:
        import os
        if os.environ["STEP_THAT_FAILS"] == "Process":
            raise ValueError("no room left")
        return [number * 2 for number in dataset]


    @app.activity_trigger(input_name="outputs", activity="Summarize")
    def summarize(outputs: list) -> int:
        return sum(outputs)


    @app.activity_trigger(input_name="nothing", activity="CleanUp")
    def clean_up(nothing) -> None:
        with open("cleaned", "a") as ledger:
            ledger.write("once\\n")
"""


def test_the_quickstart_greets_three_cities(tmp_path: Path, start_host: StartHost) -> None:
    app = tmp_path / "quickstart"
    shutil.copytree(QUICKSTART, app, ignore=shutil.ignore_patterns(".perdure", "__pycache__"))
    host = start_host(app)
    started = host.client.post("/api/startOrchestrator")
    assert started.status_code == 202
    assert started.headers["location"] == started.json()["statusQueryGetUri"]
    ended = host.wait_for_end(started.json()["id"])
    assert ended["runtimeStatus"] == "Completed"
    assert ended["output"] == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]
    assert host.client.get(started.json()["statusQueryGetUri"]).json() == ended
    assert [line.split("] ")[1] for line in host.log.splitlines() if "Saying hello" in line] == [
        "Saying hello to Tokyo.",
        "Saying hello to Seattle.",
        "Saying hello to London.",
    ]
    assert host.stop() == 0


@pytest.mark.parametrize(
    ("fails", "output", "cleaned"), [("", 12, None), ("Process", "Something went wrong", "once\n")]
)
def test_the_pipeline_cleans_up_when_a_step_fails(
    tmp_path: Path, start_host: StartHost, fails: str, output: object, cleaned: str | None
) -> None:
    app = write_app(tmp_path / "pipeline", PIPELINE)
    host = start_host(app, STEP_THAT_FAILS=fails)
    ended = host.wait_for_end(host.start("orchestrate_pipeline"))
    assert (ended["runtimeStatus"], ended["output"]) == ("Completed", output)
    ledger = app / "cleaned"
    assert (ledger.read_text() if ledger.exists() else None) == cleaned
