"""The pages about host and command line name all that there is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from perdure.cli.start import start
from perdure.host import routes

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [*(ROOT / "src" / "perdure" / "host").glob("*.py"), *(ROOT / "src" / "perdure" / "cli").glob("*.py")]
CLI = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
HOST = (ROOT / "docs" / "host.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("option", [name for one in start.params if isinstance(one, click.Option) for name in one.opts])
def test_every_option_of_start_is_documented_with_its_place_among_the_settings(option: str) -> None:
    assert f"| `{option}" in CLI
    assert f"`{option}`" in HOST


def test_every_variable_and_key_that_is_read_is_documented() -> None:
    source = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES)
    variables = set(re.findall(r"\b(?:PERDURE|PYTHON|WEBSITE|AZURE)_[A-Z_]+\b", source))
    keys = {key.replace(":", ".") for key in re.findall(r'"(extensions:[\w:]+)"', source)}
    assert len(variables) > 10
    assert {name for name in variables if f"`{name}`" not in HOST} == set()
    keys.discard("extensions.durableTask.storageProvider.type")  # it is told in words
    assert {key for key in keys if key.rpartition(".")[2] not in HOST} == set()


def test_every_route_constraint_is_documented() -> None:
    with pytest.raises(routes.RouteError) as caught:
        routes.Route("{x:nonsense}")
    known = str(caught.value).partition("there are ")[2].split(", ")
    assert len(known) > 10
    assert [name for name in known if f"`{name}`" not in HOST] == []


def test_every_endpoint_of_the_management_api_is_documented() -> None:
    source = (ROOT / "src" / "perdure" / "host" / "management.py").read_text(encoding="utf-8")
    served = re.findall(r'case "(\w+)", \[(.*?)\]', source)
    assert len(served) == 8
    documented = HOST.lower().replace("/{functionname}[/{instanceid}]", "/_")
    for name in ("instanceid", "eventname"):
        documented = documented.replace(f"{{{name}}}", "_")
    for method, parts in served:
        path = "/".join(part.strip().strip('"') for part in parts.split(","))
        assert f"`{method.lower()} /{path}`" in documented, path
