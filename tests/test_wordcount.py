"""The parts of the word count demo that judge the run: were they wrong, the demo would show nothing."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "wordcount"


class Example(NamedTuple):
    counting: ModuleType
    ledger: ModuleType
    packages: ModuleType
    demo: ModuleType


@pytest.fixture(scope="module")
def example() -> Iterator[Example]:
    """The example's modules, imported as its host imports them: from its own folder, by their plain names."""
    sys.path.insert(0, str(EXAMPLE))
    yield Example(*(importlib.import_module(name) for name in Example._fields))
    sys.path.remove(str(EXAMPLE))
    for name in Example._fields:
        del sys.modules[name]


# --- counting --------------------------------------------------------------------------------------------------------

FILES = [
    pytest.param(b"", (0, 0, 0, 0), id="empty"),
    pytest.param(b"\n", (1, 0, 0, 0), id="blank line"),
    pytest.param(b"a = b + a\n", (1, 5, 2, 0), id="one line"),
    pytest.param(b"a\r\nb\rc", (3, 3, 3, 0), id="every kind of line end"),
    pytest.param(b"x1 = 1x + 22\n", (1, 5, 1, 0), id="numbers are no identifiers"),
    pytest.param("\ufeffnaïve = 1\n".encode(), (1, 3, 1, 0), id="byte order mark"),
    pytest.param("# -*- coding: latin-1 -*-\né = 'è'\n".encode("latin-1"), (2, 8, 4, 0), id="latin-1"),
    pytest.param("é = 1\n".encode("latin-1"), (0, 0, 0, 1), id="undeclared latin-1"),
    pytest.param(b"# coding: no-such-encoding\n", (0, 0, 0, 1), id="unknown encoding"),
]


@pytest.mark.parametrize(("content", "expected"), FILES)
def test_both_counts_give_the_figures_expected(
    example: Example, tmp_path: Path, content: bytes, expected: tuple[int, int, int, int]
) -> None:
    path = tmp_path / "module.py"
    path.write_bytes(content)
    checksum = hashlib.sha256(content).hexdigest()
    assert example.demo.count_directly(path) == (*expected, checksum)
    assert tuple(example.counting.count(str(path)).values()) == (*expected[:3], checksum, bool(expected[3]))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "module.py"


@given(content=st.one_of(st.binary(), st.text().map(str.encode)))
def test_both_counts_agree_on_any_file(example: Example, scratch: Path, content: bytes) -> None:
    scratch.write_bytes(content)
    assert example.counting.count(str(scratch)) == example.demo.count_directly(scratch)._asdict()


def test_both_find_the_same_files(example: Example, tmp_path: Path) -> None:
    for file in ("a.py", "p/__init__.py", "p/q/m.py", "p/data.txt", "site-packages/no.py", "p/__pycache__/no.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    roots = {"top": str(tmp_path)}
    direct = example.demo.count_everything_directly(roots)
    assert {name: len(files) for name, files in direct.items()} == {"top": 1, "top.p": 1, "top.p.q": 1}
    found = example.packages.find(roots)
    assert {package["name"]: package["files"] for package in found} == {"top": 1, "top.p": 1, "top.p.q": 1}
    paths = {package["name"]: example.packages.python_files(package["directory"]) for package in found}
    assert {name: set(files) for name, files in direct.items()} == {name: set(files) for name, files in paths.items()}


# --- the ledger ------------------------------------------------------------------------------------------------------


def test_attempts_are_counted_across_processes(example: Example, tmp_path: Path) -> None:
    file = tmp_path / "ledger.txt"
    first = example.ledger.Ledger(file)
    assert [first.started("a"), first.started("b"), first.started("a")] == [1, 1, 2]
    second = example.ledger.Ledger(file)
    assert [second.started("a"), second.started("c")] == [3, 1]


def test_a_line_that_was_torn_off_is_not_read(example: Example, tmp_path: Path) -> None:
    file = tmp_path / "ledger.txt"
    file.write_text("started\t1\t7\ta path\twith a tab\nfinished\t1\t7")
    assert example.ledger.read(file) == [("started", 1, 7, "a path\twith a tab")]


def test_the_account_tells_what_was_interrupted_and_what_ran_again(example: Example) -> None:
    entries = [
        example.ledger.Entry(*entry)
        for entry in [
            ("started", 1, 7, "done"),
            ("finished", 1, 7, "done"),
            ("started", 1, 7, "stumbled"),
            ("failed", 1, 7, "stumbled"),
            ("started", 1, 7, "not committed"),
            ("finished", 1, 7, "not committed"),
            ("started", 1, 7, "in flight"),
            ("started", 2, 8, "in flight"),
            ("finished", 2, 8, "in flight"),
            ("started", 2, 8, "stumbled"),
            ("finished", 2, 8, "stumbled"),
            ("started", 2, 8, "not committed"),
            ("finished", 2, 8, "not committed"),
        ]
    ]
    assert example.demo.account(entries, killed=7) == example.demo.Account(
        files=4, begun=7, begun_later=3, finished=5, failed=1, in_flight=1, undurable=1
    )


# --- the verdict -----------------------------------------------------------------------------------------------------


def figures(words: int) -> dict[str, Any]:
    return {"lines": 1, "words": words, "identifiers": 1, "undecodable": 0, "sha256": "00"}


def totals(words: int, files: int) -> dict[str, int]:
    return {"files": files, "lines": files, "words": words, "identifiers": files, "undecodable": 0}


@pytest.fixture
def direct(example: Example) -> dict[str, dict[str, Any]]:
    Figures = example.demo.Figures
    return {
        "p": {"p/a.py": Figures(**figures(2)), "p/b.py": Figures(**figures(3))},
        "q": {"q/c.py": Figures(**figures(5))},
    }


@pytest.fixture
def output() -> dict[str, Any]:
    return {
        "summary": totals(10, 3),
        "packages": [
            {"name": "p", "totals": totals(5, 2), "figures": {"p/a.py": figures(2), "p/b.py": figures(3)}},
            {"name": "q", "totals": totals(5, 1), "figures": {"q/c.py": figures(5)}},
            {"name": "torn", "failure": "IsADirectoryError", "removed": "torn.unfinished"},
        ],
    }


@pytest.fixture
def reports() -> dict[str, dict[str, int]]:
    return {"p": totals(5, 2), "q": totals(5, 1)}


def test_equal_figures_pass(example: Example, direct: Any, output: Any, reports: Any) -> None:
    assert example.demo.differences(output, reports, direct) == []


SPOILED = [
    (lambda out, direct, reports: out["summary"].update(words=11), "summary: words is 11, counted directly it is 10"),
    (
        lambda out, direct, reports: out["packages"][0]["totals"].update(lines=3),
        "package p: lines is 3, counted directly it is 2",
    ),
    (
        lambda out, direct, reports: out["packages"][1]["figures"]["q/c.py"].update(sha256="ff"),
        "file q/c.py: sha256 is ff, counted directly it is 00",
    ),
    (lambda out, direct, reports: out["packages"][0]["figures"].pop("p/a.py"), "file p/a.py was not counted"),
    (lambda out, direct, reports: direct["p"].pop("p/a.py"), "file p/a.py should not be there"),
    (lambda out, direct, reports: out["packages"].pop(1), "package q was not counted"),
    (lambda out, direct, reports: direct.pop("q"), "package q should not be there"),
    (lambda out, direct, reports: out["packages"].append(out["packages"][1]), "package q is there 2 times"),
    (lambda out, direct, reports: reports["p"].update(files=1), "report p: files is 1, counted directly it is 2"),
    (lambda out, direct, reports: reports.update(torn={}), "report torn should not be there"),
]


@pytest.mark.parametrize(("spoil", "expected"), SPOILED, ids=[expected for _, expected in SPOILED])
def test_one_wrong_figure_is_told(
    example: Example, direct: Any, output: Any, reports: Any, spoil: Callable[..., object], expected: str
) -> None:
    spoil(output, direct, reports)
    assert expected in example.demo.differences(output, reports, direct)


def test_a_run_that_was_started_over_is_not_taken_for_resumed(example: Example) -> None:
    before = example.demo.Account(files=9, begun=9, begun_later=0, finished=5, failed=0, in_flight=4, undurable=0)
    example.demo.check_ledger(before._replace(begun_later=5, undurable=1), before)
    with pytest.raises(example.demo.DemoFailed, match="started over"):
        example.demo.check_ledger(before._replace(begun_later=9, undurable=5), before)
    with pytest.raises(example.demo.DemoFailed, match="not resumed"):
        example.demo.check_ledger(before, before)


def test_a_missing_clean_up_is_told(example: Example, output: Any, tmp_path: Path) -> None:
    output["packages"][2]["name"] = example.demo.BROKEN_PACKAGE
    example.demo.check_clean_up(output, tmp_path)
    (tmp_path / "p.unfinished").write_text("")
    with pytest.raises(example.demo.DemoFailed, match=r"p\.unfinished"):
        example.demo.check_clean_up(output, tmp_path)
    del output["packages"][2]
    with pytest.raises(example.demo.DemoFailed, match="should have failed"):
        example.demo.check_clean_up(output, tmp_path)


# --- the whole of it -------------------------------------------------------------------------------------------------


def test_the_demo_loses_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PERDURE_", "WORDCOUNT_"))}
    done = subprocess.run(
        [sys.executable, EXAMPLE / "demo.py"],
        env={**environment, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing was lost and nothing was counted twice." in done.stdout
    assert list(tmp_path.iterdir()) == []
    for pid in re.findall(r"process (\d+)", done.stdout, re.IGNORECASE):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
