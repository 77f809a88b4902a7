"""Saves a small store, with instances in the middle of everything, as it was when its host was killed.

    PYTHONPATH=src python tests/stores/save.py

To be run once for each format that a release has: it writes `format_<number>.db`, and `format_<number>.json` beside it
that tells what each instance is in the middle of, what has to be done for it to end, and what must come out. Every
later version must open and finish it, so a file that is there is not written again; nothing is ever taken from them.

The host runs in virtual time, so the same code saves the same store.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import apsw

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

from fix_virtual_host import VirtualHost, virtual_host  # noqa: E402
from saved_app import build_app  # noqa: E402

from perdure.core.events import EventRaised, ExecutionSuspended  # noqa: E402
from perdure.core.protocols import StartRequest  # noqa: E402
from perdure.core.state import ENDED  # noqa: E402
from perdure.engine import EngineSettings  # noqa: E402
from perdure.engine.outside import submit_message, submit_start  # noqa: E402
from perdure.store.sqlite import SqliteStore  # noqa: E402
from perdure.store.sqlite.format import FORMAT  # noqa: E402
from perdure.testing.runtime import SimulatedMachine  # noqa: E402

HUB = "Saved"
SETTINGS = EngineSettings(turns_in_batch=1)
"""A commit for each turn, so that there are moments between them."""
BRANCHES = 12


def instance(id: str, what: str, output: Any, *then: list[Any], ends: str = "Completed") -> dict[str, Any]:
    """`then` are requests: ["raise", name, text] and ["resume"], or ["raise", name, text, instance id]."""
    return {"id": id, "what": what, "then": list(then), "ends": ends, "output": output}


INSTANCES = [
    instance(
        "fan-out",
        "a fan-out, with some of its activities done and an answer in the inbox",
        BRANCHES * (BRANCHES - 1) * (2 * BRANCHES - 1) // 6,
    ),
    instance("retry", "the wait of an hour before an activity is tried again", "reached the moon"),
    instance("timer", "a timer of 30 days", True),
    instance(
        "parent",
        "two sub-orchestrations, one of them under an id that was given",
        ["slept", "child"],
        ["raise", "Go", '"child"', "parent-child"],
    ),
    instance(
        "generation",
        "the second generation of an eternal orchestration, with an event kept from the first",
        [1, 2, 3, "kept"],
        ["raise", "Tick", "2"],
        ["raise", "Tick", "3"],
    ),
    instance("renewed", "continuing as new, with a kept event, before its code has run again", "kept"),
    instance(
        "events", "waiting for an event, with another one that is kept", ["kept", "now"], ["raise", "Second", '"now"']
    ),
    instance(
        "suspended",
        "a suspension, with the answer of a child and two events in the inbox",
        ["child", 1, 2],
        ["resume"],
    ),
    instance("parked", "parked, as its function was not served", "remembered"),
    instance("unseen", "started by another process when there was no host", "hello wörld \U0001f30d"),
    instance("told", "waiting for an event that another process has sent meanwhile", "from outside"),
    instance(
        "large",
        "waiting for an event, with an input and a result that are kept apart",
        [True, True, "on"],
        ["raise", "Go", '"on"'],
    ),
    instance("completed", "nothing: it has completed, and an event came too late", "hello again"),
    instance("failed", "nothing: it has failed", None, ends="Failed"),
]


def bring_to_the_middle(host: VirtualHost) -> bool:
    """Leave each instance where it is to be saved; whether both of the last two were met there."""
    host.start("retrying", "retry", '"the moon"')
    host.start("month", "timer")
    host.start("parent", "parent", '"parent-child"')
    host.start("eternal", "generation", "[]")
    host.raise_event("generation", "Kept", '"kept"')
    host.raise_event("generation", "Tick", "1")
    host.start("two_events", "events")
    host.raise_event("events", "First", '"kept"')
    host.start("held", "suspended", '"suspended-child"')
    host.wait_for("suspended", lambda row: row.status == "Running")
    host.control("suspended", ExecutionSuspended("saved so"))
    host.wait_for("suspended", lambda row: row.status == "Suspended")
    host.raise_event("suspended", "Number", "1")
    host.raise_event("suspended", "Number", "2")
    host.raise_event("suspended-child", "Go", '"child"')
    host.start("waiter", "told")
    host.start("waiter", "completed")
    host.engine.doors.raise_event("completed", EventRaised("Go", '"hello again"'), _unheard)
    host.raise_event("completed", "Go", '"too late"')
    host.start("hoarder", "large", json.dumps(50_000 * "packs well "))
    host.start("doomed", "failed")
    host.start("renewed", "renewed")
    host.raise_event("renewed", "Kept", '"kept"')
    submit_start(host.store, host.runtime, StartRequest("forgotten", "parked"))
    host.wait_for("retry", lambda row: row.sequence == 3)
    host.wait_for("generation", lambda row: row.generation == 1 and not row.ready)
    host.wait_for("large", lambda row: row.sequence == 2)
    host.wait_for("failed", lambda row: row.status == "Failed")
    host.wait_for("completed", lambda row: row.status == "Completed" and row.sequence == 4)
    host.wait_for("suspended-child", lambda row: row.status == "Completed")
    host.wait_for("parked", lambda row: row.parked is not None)
    host.run_until(lambda: len(host.store.inbox(0, 10)) == 3)

    host.start("fan_out", "fan-out", str(BRANCHES))
    host.wait_for("fan-out", lambda row: 0 < row.open_activities < BRANCHES - 1)
    host.engine.doors.raise_event("renewed", EventRaised("Again"), _unheard)
    host.wait_for("renewed", lambda row: row.ready and row.generation == 1)
    return host.row("fan-out").open_activities > len(host.store.inbox_of(host.row("fan-out").key, 0, BRANCHES)) > 0


def _unheard(_: object) -> None:
    """The reply of a request whose answer nobody waits for."""


def write_from_outside(host: VirtualHost, store: SqliteStore) -> None:
    """What a client writes when there is no host."""
    submit_start(store, host.runtime, StartRequest("greet", "unseen", json.dumps("wörld \U0001f30d")))
    submit_message(store, "told", EventRaised("Go", '"from outside"'))


def save(database: Path, seed: int) -> dict[str, Any] | None:
    """Write the store; what its manifest says, or None if the seed was not a lucky one."""
    store = SqliteStore(database, HUB)
    machine = SimulatedMachine(seed)
    with virtual_host(machine, store, build_app(when_saved=True), SETTINGS) as host:
        met = bring_to_the_middle(host)
        host.kill()
        write_from_outside(host, store)
    rows = store.find([entry["id"] for entry in INSTANCES])
    store.close()
    if not met:
        return None
    for entry in INSTANCES:
        row = rows[entry["id"]]
        entry["status"] = row.status
        assert (row.status in ENDED) == entry["what"].startswith("nothing"), row
    return {"hub": HUB, "saved_at": machine.now(), "instances": INSTANCES}


def tidy(database: Path) -> None:
    """One file that needs no log, and does not tell where it was made."""
    connection = apsw.Connection(str(database))
    connection.execute("UPDATE host SET pid = 1, machine = 'saved'")
    for table, column, kind in (
        ("instance", "failure", "TEXT"),
        ("history", "body", "BLOB"),
        ("inbox", "body", "BLOB"),
    ):
        changed = f"CAST(replace(CAST({column} AS TEXT), ?1, '/app') AS {kind})"
        connection.execute(f"UPDATE {table} SET {column} = {changed} WHERE {column} IS NOT NULL", (str(FOLDER),))
    connection.execute("VACUUM")
    connection.wal_checkpoint(None, apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()


def main() -> None:
    name = f"format_{FORMAT.number}"
    target = FOLDER / f"{name}.db"
    if target.exists():
        sys.exit(f"{target} is there, and what is saved once is kept for ever")
    for seed in range(1000):
        with tempfile.TemporaryDirectory() as folder:
            database = Path(folder) / "hub.db"
            manifest = save(database, seed)
            if manifest is None:
                continue
            tidy(database)
            shutil.copyfile(database, target)
            target.with_suffix(".json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
            print(f"{target}: {target.stat().st_size} bytes, seed {seed}")
            return
    sys.exit("no seed met all instances in the middle")


if __name__ == "__main__":
    main()
