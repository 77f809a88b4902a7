"""The statements: each is used and well-formed, and none walks over a table that grows."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import pytest

import perdure.store.sqlite
from perdure.core.state import PROGRESS, InstanceRow
from perdure.store.sqlite.format import FORMAT
from perdure.store.sqlite.statements import STATEMENTS

WIDTHS = {
    "insert_instances": len(InstanceRow.__struct_fields__),
    "update_instances": len(InstanceRow.__struct_fields__),
    "advance_instances": 1 + len(PROGRESS),
    "insert_history": 3,
    "insert_messages": 5,
    "insert_timers": 4,
    "delete_timers": 4,
}
GROWING = "instance|history|inbox|timer|garbage|payload"


@pytest.fixture
def connection() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute(FORMAT.schema)
    return connection


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_finds_its_rows_by_an_index(connection: apsw.Connection, name: str) -> None:
    text = STATEMENTS[name]
    if "<rows>" in text:
        row = f"({','.join('?' * WIDTHS[name])})"
        text = text.replace("<rows>", f"{row},{row}")
    numbered = [int(number) for number in re.findall(r"\?(\d+)", text)]
    parameters = max(numbered) if numbered else text.count("?")
    plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + text, (1,) * parameters)]
    for step in plan:
        assert not re.match(rf"SCAN ({GROWING})\b", step), plan
        # An index on the hub alone is the whole table of a file with one hub.
        if name not in ("garbage", "count_created", "count_ids"):
            assert not re.search(rf"SEARCH ({GROWING}) .*\(hub=\?\)", step), plan


def test_the_table_of_instances_has_the_columns_of_a_row_and_the_hub(connection: apsw.Connection) -> None:
    columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info('instance')")]
    assert sorted(columns) == sorted([*InstanceRow.__struct_fields__, "hub"])


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_is_used(name: str) -> None:
    sources = Path(perdure.store.sqlite.__file__).parent.glob("*.py")
    assert any(f'"{name}"' in source.read_text("utf-8") for source in sources)


def test_every_statement_says_what_it_is_for() -> None:
    text = (Path(perdure.store.sqlite.__file__).parent / "queries.sql").read_text("utf-8")
    names = re.findall(r"^-- name: (\w+)$", text, re.MULTILINE)
    explained = re.findall(r"^-- name: (\w+)\n-- \S", text, re.MULTILINE)
    assert names == explained == list(STATEMENTS)
