"""A process that uses a store which another one hosts: `outside_client.py DATABASE HUB`.

Reads requests from standard input, one JSON object on each line, and answers each with a line: what the call returned,
or the name of the exception that refused it, and when that was (seconds since the epoch).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from perdure.core.errors import CallerError
from perdure.core.events import EventRaised, ExecutionResumed, ExecutionSuspended, ExecutionTerminated
from perdure.core.protocols import StartRequest
from perdure.engine.outside import submit_message, submit_start
from perdure.runtime import ThreadRuntime
from perdure.store.api import Store
from perdure.store.sqlite import SqliteStore

MESSAGES = {
    "raise": EventRaised,
    "terminate": ExecutionTerminated,
    "suspend": ExecutionSuspended,
    "resume": ExecutionResumed,
}


def carry_out(store: Store, runtime: ThreadRuntime, request: dict[str, Any]) -> str | None:
    if "start" in request:
        start = StartRequest(
            request["start"], request.get("id"), json.dumps(request.get("input")), None, request.get("by")
        )
        return submit_start(store, runtime, start)
    event = MESSAGES[request["verb"]](**request["message"])
    return submit_message(store, request["id"], event)


def main() -> None:
    store = SqliteStore(Path(sys.argv[1]), sys.argv[2])
    runtime = ThreadRuntime()
    for line in sys.stdin:
        try:
            result = carry_out(store, runtime, json.loads(line))
        except CallerError as refusal:
            result = type(refusal).__name__
        print(json.dumps([result, time.time()]), flush=True)
    store.close()


if __name__ == "__main__":
    main()
