"""The regression job: which commit it compares with, and when it fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from load_script import SCRIPTS, load_script

job: Any = load_script("regression")


class Repository:
    """A clone whose commits each write their name into src/name.txt."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "src").mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *arguments: str) -> str:
        settings = ("-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *settings, *arguments], cwd=self.root, capture_output=True, text=True, check=True
        ).stdout.strip()

    def commit(self, name: str) -> str:
        (self.root / "src" / "name.txt").write_text(name, encoding="utf-8")
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", name)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    # Git looks for a repository no further up, and in no variable of the environment.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Repository(tmp_path / "clone")


def test_a_branch_is_compared_with_where_it_left_the_main_one(repository: Repository) -> None:
    left = repository.commit("first")
    repository.git("checkout", "--quiet", "-b", "work")
    repository.commit("mine")
    repository.commit("mine again")
    repository.git("checkout", "--quiet", "main")
    repository.commit("theirs")
    repository.git("checkout", "--quiet", "work")
    assert job.base_commit(repository.root) == left


def test_the_main_branch_is_compared_with_the_parent_of_its_tip(repository: Repository) -> None:
    repository.commit("first")
    second = repository.commit("second")
    repository.commit("third")
    assert job.base_commit(repository.root) == second


def test_a_clone_that_has_the_main_branch_only_at_its_origin_is_compared_with_that(
    repository: Repository, tmp_path: Path
) -> None:
    left = repository.commit("first")
    repository.git("clone", "--quiet", str(repository.root), str(tmp_path / "copy"))
    copy = Repository.__new__(Repository)
    copy.root = tmp_path / "copy"
    copy.git("checkout", "--quiet", "-b", "work")
    copy.git("branch", "--quiet", "-D", "main")
    copy.commit("mine")
    assert job.base_commit(copy.root) == left


def test_a_first_commit_has_nothing_to_be_compared_with(repository: Repository) -> None:
    repository.commit("first")
    with pytest.raises(job.NothingToCompare):
        job.base_commit(repository.root)


def test_another_branch_alone_has_nothing_to_be_compared_with(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "-b", "work")
    repository.commit("first")
    repository.commit("second")
    with pytest.raises(job.NothingToCompare, match="no branch main"):
        job.base_commit(repository.root)


def test_a_folder_that_is_no_clone_has_nothing_to_be_compared_with(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(job.NothingToCompare, match="not a git repository"):
        job.base_commit(tmp_path)


def test_a_clone_without_history_passes_and_says_why(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit("first")
    assert job.main(repository.root) == 0
    assert "nothing to compare with" in capsys.readouterr().out


def test_earlier_sources_that_cannot_be_run_pass_and_it_says_why(
    repository: Repository, capfd: pytest.CaptureFixture[str]
) -> None:
    (repository.root / "src" / "perdure").mkdir()
    (repository.root / "src" / "perdure" / "__init__.py").touch()
    repository.commit("first")
    repository.commit("second")
    (repository.root / "src" / "perdure" / "__main__.py").write_text("print('{\"cpu_us_per_activity\": 1.0}')")
    assert job.main(repository.root) == 0
    assert "does not run the benchmark here" in capfd.readouterr().out


def test_what_costs_more_than_before_fails(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    program = repository.root / "src" / "perdure" / "__main__.py"
    program.parent.mkdir()
    (program.parent / "__init__.py").touch()
    for cost in ("50.0", "80.0"):
        program.write_text(f"print('{{\"cpu_us_per_activity\": {cost}}}')", encoding="utf-8")
        repository.commit(cost)
    assert job.main(repository.root) == 1
    assert "FAILED: 80.0 us of CPU for each activity, 50.0 before: 1.60 times" in capsys.readouterr().out


def test_earlier_sources_without_the_package_are_not_taken_from_elsewhere(
    repository: Repository, tmp_path: Path
) -> None:
    first = repository.commit("first")
    with pytest.raises(job.NothingToCompare, match="no src/perdure"):
        job.unpack(first, tmp_path / "unpacked", repository.root)


def test_earlier_sources_are_unpacked_and_the_clone_is_left_as_it_was(repository: Repository, tmp_path: Path) -> None:
    (repository.root / "src" / "perdure").mkdir()
    (repository.root / "src" / "perdure" / "__init__.py").touch()
    first = repository.commit("first")
    repository.commit("second")
    source = job.unpack(first, tmp_path / "unpacked", repository.root)
    assert (source / "name.txt").read_text(encoding="utf-8") == "first"
    assert repository.git("status", "--porcelain") == ""
    assert repository.git("worktree", "list").count("\n") == 0


def test_the_least_of_each_is_compared() -> None:
    passed, said = job.verdict([100.0, 300.0], [900.0, 120.0])
    assert passed
    assert "1.20 times" in said


def test_what_is_dearer_than_the_margin_fails() -> None:
    assert job.verdict([100.0], [100.0 * job.MARGIN])[0]
    assert not job.verdict([100.0], [100.0 * job.MARGIN + 1])[0]


def test_help_is_shown_and_nothing_is_run() -> None:
    done = subprocess.run([sys.executable, SCRIPTS / "regression.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: regression.py")
    assert "regression:" not in done.stdout
