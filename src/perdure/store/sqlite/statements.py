"""The statements of `queries.sql`, by name.

A file is a list of blocks: a line `-- name: …`, comments, one statement. Looking up a name that is not there is a
KeyError when the module that uses it is imported.
"""

from __future__ import annotations

from importlib.resources import files
from string import Template

from perdure.core.ids import KEY_BITS
from perdure.core.state import PROGRESS, InstanceRow

_COLUMNS = InstanceRow.__struct_fields__
_FIXED = ("key", "partition", "id", "kind")

_PARTS = {
    "instance": ", ".join(_COLUMNS),
    "instance_values": ", ".join("?" * (len(_COLUMNS) + 1)),
    "instance_changes": ", ".join(f"{c} = given.column{n}" for n, c in enumerate(_COLUMNS, 1) if c not in _FIXED),
    "progress_changes": ", ".join(f"{c} = given.column{n}" for n, c in enumerate(PROGRESS, 2)),
    "key_bits": str(KEY_BITS),
    "mail": (
        "inbox.seq, inbox.id, inbox.target, inbox.execution, inbox.control, "
        "coalesce(instance.status IN ('Suspended', 'Failed') OR instance.parked IS NOT NULL, 0), inbox.body"
    ),
    "query": (
        "hub = ?1 AND key > ?2 AND created_at BETWEEN ?3 AND ?4 AND id >= ?5 AND id < ?6 "
        "AND (?7 IS NULL OR status IN (SELECT value FROM json_each(?7)))"
    ),
}


def read_sql(name: str) -> str:
    """The text of a `.sql` file of this package."""
    return files("perdure.store.sqlite").joinpath(name).read_text("utf-8")


def _parse(text: str) -> dict[str, str]:
    statements: dict[str, str] = {}
    for block in text.split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        lines = (line for line in body.splitlines() if not line.startswith("--"))
        statements[name.strip()] = Template("\n".join(lines).strip()).substitute(_PARTS)
    return statements


STATEMENTS = _parse(read_sql("queries.sql"))
