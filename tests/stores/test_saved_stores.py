"""Stores that earlier versions left in the middle of everything: this version opens them and brings all to its end.

`save.py` makes them, one for each format.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest
from fix_virtual_host import VirtualHost, virtual_host
from saved_app import build_app

from perdure.core.codec import decode_failure
from perdure.core.events import EventRaised, ExecutionResumed, SubOrchestrationInstanceCompleted, TaskCompleted
from perdure.core.failures import reason
from perdure.core.protocols import InstanceQuery
from perdure.core.state import ENDED
from perdure.engine import EngineSettings
from perdure.engine.loading import read_history, to_mail
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.format import APPLICATION_ID, FORMAT
from perdure.testing.runtime import SimulatedMachine

FOLDER = Path(__file__).parent
SAVED = sorted(FOLDER.glob("format_*.db"))
LARGEST = 200_000
SETTINGS = EngineSettings(poll_seconds=0, horizon_seconds=86_400)
YEAR_MICROSECONDS = 365 * 86_400 * 1_000_000


class Saved(NamedTuple):
    database: Path
    """A copy of the file."""
    hub: str
    saved_at: int
    instances: list[dict[str, Any]]


@pytest.fixture(params=SAVED, ids=lambda path: path.stem)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Saved:
    original: Path = request.param
    manifest = json.loads(original.with_suffix(".json").read_text(encoding="utf-8"))
    return Saved(Path(shutil.copy(original, tmp_path)), **manifest)


@pytest.fixture
def store(saved: Saved) -> Iterator[SqliteStore]:
    store = SqliteStore(saved.database, saved.hub)
    yield store
    store.close()


def request(host: VirtualHost, instance_id: str, verb: str, *arguments: str) -> None:
    """One of the manifest's requests."""
    if verb == "resume":
        host.control(instance_id, ExecutionResumed())
        return
    name, text, *elsewhere = arguments
    host.raise_event(elsewhere[0] if elsewhere else instance_id, name, text)


def test_the_format_of_this_version_has_a_saved_store() -> None:
    assert FOLDER / f"format_{FORMAT.number}.db" in SAVED


def test_a_saved_store_is_one_small_file_that_is_whole(saved: Saved) -> None:
    assert saved.database.stat().st_size < LARGEST
    connection = apsw.Connection(str(saved.database), apsw.SQLITE_OPEN_READONLY)
    assert connection.pragma("application_id") == APPLICATION_ID
    assert f"format_{connection.pragma('user_version')}" == saved.database.stem
    assert connection.pragma("integrity_check") == "ok"
    connection.close()
    assert not [path.name for path in FOLDER.iterdir() if path.name.endswith(("-wal", "-shm"))]


def test_what_was_saved_is_in_the_middle_of_everything(saved: Saved, store: SqliteStore) -> None:
    """Were it not, finishing it would prove nothing."""
    rows = store.find([entry["id"] for entry in saved.instances])
    assert {id: row.status for id, row in rows.items()} == {e["id"]: e["status"] for e in saved.instances}

    def inbox(id: str) -> list[type]:
        return [type(to_mail(mail).event) for mail in store.inbox_of(rows[id].key, 0, 100)]

    def timer_days(id: str) -> list[float]:
        found = [timer for timer in store.timers(2**62, None, 100) if timer.instance == rows[id].key]
        return [round((timer.fire_at - rows[id].created_at) / 86_400_000_000, 2) for timer in found]

    def kept(id: str) -> list[str]:
        first = read_history(store, rows[id].execution)[0]
        return [event.name for event in first.received if isinstance(event, EventRaised)]

    assert rows["fan-out"].open_activities > len(inbox("fan-out")) > 0
    assert set(inbox("fan-out")) == {TaskCompleted}
    assert timer_days("retry") == [0.04]
    assert timer_days("timer") == [30]
    children = [row for row in store.query(InstanceQuery()) if row.parent_id == "parent"]
    assert [child.status for child in children] == ["Running", "Running"]
    assert (rows["generation"].generation, rows["generation"].ready, kept("generation")) == (1, False, ["Kept"])
    assert (rows["renewed"].generation, rows["renewed"].ready, kept("renewed")) == (1, True, ["Kept"])
    assert rows["events"].custom_status == '{"waits for": "Second"}'
    assert inbox("suspended") == [EventRaised, EventRaised, SubOrchestrationInstanceCompleted]
    assert (rows["parked"].parked or "").startswith("missing function: ")
    assert (rows["unseen"].status, rows["unseen"].ready) == ("Pending", True)
    assert inbox("told") == [EventRaised]
    if "large" in rows:
        assert rows["large"].input is None and rows["large"].input_payload is not None
        assert payload_encodings(saved) == {"zlib", "utf-8"}


def payload_encodings(saved: Saved) -> set[str]:
    connection = apsw.Connection(str(saved.database), apsw.SQLITE_OPEN_READONLY)
    encodings = {encoding for (encoding,) in connection.execute("SELECT DISTINCT encoding FROM payload")}
    connection.close()
    return encodings


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("years_later", [0, 1])
def test_this_version_finishes_what_was_saved(saved: Saved, store: SqliteStore, seed: int, years_later: int) -> None:
    machine = SimulatedMachine(seed, saved.saved_at + years_later * YEAR_MICROSECONDS)
    with virtual_host(machine, store, build_app(when_saved=False), SETTINGS) as host:
        for entry in saved.instances:
            for verb in entry["then"]:
                request(host, entry["id"], *verb)
        for entry in saved.instances:
            row = host.wait_for(entry["id"], lambda row: row.status in ENDED)
            assert row.status == entry["ends"], row
            assert json.loads(row.output or "null") == entry["output"], entry["what"]
        failure = host.row("failed").failure
        assert failure is not None and "can't multiply sequence" in reason(decode_failure(failure))
    assert [row.id for row in store.query(InstanceQuery(limit=1000)) if row.status not in ENDED] == []
    assert store.inbox(0, 10) == []
    assert store.timers(2**62, None, 10) == []
    assert store.due(0, 10) == []
