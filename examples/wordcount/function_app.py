"""Counts the words of every Python file of this interpreter.

An orchestration finds the packages and runs a sub-orchestration for each, which runs an activity for each file.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import azure.durable_functions as df
import azure.functions as func

import activities
import packages

PACKAGES_AT_A_TIME = 16
RETRY = df.RetryOptions(first_retry_interval_in_milliseconds=200, max_number_of_attempts=3)

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
app.register_functions(activities.bp)


@app.route(route="wordcount", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Begin to count. The body may name the roots: an object of labels and directories."""
    roots = req.get_json() if req.get_body() else packages.default_roots()
    instance_id = await client.start_new("count_everything", client_input=roots)
    return client.create_check_status_response(req, instance_id)


@app.orchestration_trigger(context_name="context")
def count_everything(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    found = yield context.call_activity("find_packages", context.get_input())
    waiting = list(reversed(found))
    running: list[Any] = []
    results: list[dict[str, Any]] = []
    status = {"packages": 0, "of_packages": len(found), "files": 0, "of_files": sum(p["files"] for p in found)}
    context.set_custom_status(status)
    while waiting or running:
        while waiting and len(running) < PACKAGES_AT_A_TIME:
            package = waiting.pop()
            child_id = f"{context.instance_id}.{package['name']}"
            running.append(context.call_sub_orchestrator("count_package", package, child_id))
        ended = yield context.task_any(running)
        running.remove(ended)
        results.append(ended.result)
        status = {**status, "packages": len(results), "files": sum(result["of_files"] for result in results)}
        context.set_custom_status(status)
    counted = [result["totals"] for result in results if "totals" in result]
    summary = yield context.call_activity("summarize", counted)
    return {"summary": summary, "packages": results}


@app.orchestration_trigger(context_name="context")
def count_package(context: df.DurableOrchestrationContext) -> Generator[Any, Any, Any]:
    package = context.get_input()
    result = {"name": package["name"], "of_files": package["files"]}
    paths = yield context.call_activity("open_package", package)
    try:
        figures = yield context.task_all(
            [context.call_activity_with_retry("count_file", RETRY, path) for path in paths]
        )
    except Exception as error:
        removed = yield context.call_activity("clean_up", package)
        return {**result, "failure": str(error).partition("\n")[0].strip(), "removed": removed}
    totals = {
        "name": package["name"],
        "files": len(figures),
        "lines": sum(file["lines"] for file in figures),
        "words": sum(file["words"] for file in figures),
        "identifiers": sum(file["identifiers"] for file in figures),
        "undecodable": sum(file["undecodable"] for file in figures),
    }
    yield context.call_activity("close_package", totals)
    return {**result, "totals": totals, "figures": dict(zip(paths, figures, strict=True))}
