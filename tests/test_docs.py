"""The documentation says what is there: its code is the examples' code, its commands exist, its links lead somewhere.

A block of Python names the file that it is taken from in a comment before it, `<!-- from examples/... -->`, and stands
in that file to the letter. In console blocks, lines that begin with `$ ` are commands.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from perdure.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- from (?P<source>\S+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)")
GREETINGS = ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def code_of(text: str) -> str:
    """What stands in code, inline or in blocks."""
    return "\n".join(re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL))


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in the console blocks."""
    for block in BLOCK.finditer(text):
        if block["language"] == "console":
            for line in block["code"].splitlines():
                if line.startswith("$ "):
                    yield shlex.split(line[2:], comments=True)


@every_page
def test_python_blocks_are_the_code_of_the_examples(page: Path) -> None:
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["language"] == "python":
            assert block["source"], f"{page.name}: name the file before this block:\n{block['code']}"
            source = (ROOT / block["source"]).read_text(encoding="utf-8")
            assert block["code"] in source, f"{page.name}: not the code of {block['source']}:\n{block['code']}"


@every_page
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for link in LINK.finditer(page.read_text(encoding="utf-8")):
        path, _, heading = link["target"].partition("#")
        if ":" not in path:
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name} links to {link['target']}"
            if heading and target.suffix == ".md":
                assert heading in headings(target), f"{page.name} links to {link['target']}"


def headings(page: Path) -> set[str]:
    """The anchors of a page: its headings in lower case, blanks as hyphens, punctuation dropped."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@every_page
def test_make_targets_that_are_named_exist(page: Path) -> None:
    assert set(MAKE.findall(code_of(page.read_text(encoding="utf-8")))) <= targets()


@every_page
def test_perdure_commands_and_options_that_are_shown_exist(page: Path) -> None:
    for words in commands(page.read_text(encoding="utf-8")):
        if words[0] == "perdure":
            command, rest = find_command(words[1:])
            known = {option for parameter in command.params for option in parameter.opts}
            given = {word.partition("=")[0] for word in rest if word.startswith("--")}
            assert given <= known | {"--help"}, f"{page.name}: {' '.join(words)}"


def find_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and the words that follow its name."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    assert not isinstance(command, click.Group) or not words or words[0].startswith("--"), f"no command {words[0]}"
    return command, words


def test_pages_that_the_source_names_exist() -> None:
    for path in (ROOT / "src").rglob("*"):
        if path.is_file() and path.suffix in (".py", ".sql", ".html"):
            for page in re.findall(r"\bdocs/[\w./-]+\.md\b", path.read_text(encoding="utf-8")):
                assert (ROOT / page).is_file(), f"{path.relative_to(ROOT)} names {page}"


def test_every_page_is_found_from_the_index() -> None:
    found = {ROOT / "docs" / "README.md"}
    waiting = list(found)
    while waiting:
        page = waiting.pop()
        for link in LINK.finditer(page.read_text(encoding="utf-8")):
            target = (page.parent / link["target"].partition("#")[0]).resolve()
            if target.suffix == ".md" and target not in found:
                found.add(target)
                waiting.append(target)
    assert [page for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in found] == []


def test_every_make_target_is_explained_by_help() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert targets() == set(phony.split())


def test_readme_and_quickstart_promise_what_the_quickstart_gives() -> None:
    for page in ("README.md", "docs/quickstart.md"):
        assert json.dumps(GREETINGS) in (ROOT / page).read_text(encoding="utf-8")


def test_every_table_of_the_store_is_described() -> None:
    schema = (ROOT / "src" / "perdure" / "store" / "sqlite" / "schema.sql").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "internals" / "data.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \*\*(\w+)\*\*", page, re.MULTILINE) == re.findall(
        r"^CREATE TABLE (\w+)", schema, re.MULTILINE
    )


def test_the_glossary_is_in_alphabetical_order() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(words) > 20
    assert words == sorted(words)
