"""Compare what a fixed small run costs in CPU with what it cost where this branch left the main one: `make regression`.

Both run on this machine by turns, so their ratio says more than their numbers; the least of each counts, as all that
disturbs a run makes it dearer. The margin is wide: it catches what made the hot path half as dear again, not a few
percent. `make bench-check` judges the speed itself.

On the main branch the parent of its tip is what is compared with. Where that cannot be had, in a clone without history
say, there is nothing to compare with: the reason is printed and nothing fails.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAIN = ("main", "origin/main")
COMMAND = ("bench", "hello", "--clients", "64", "--count", "2000", "--json")
FIGURE = "cpu_us_per_activity"
ROUNDS = 4
MARGIN = 1.5


class NothingToCompare(Exception):
    """Why there is no earlier commit to run."""


def git(*arguments: str, root: Path = ROOT) -> bytes:
    """Raises NothingToCompare, which says what git said."""
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise NothingToCompare("git is not installed") from None
    except subprocess.CalledProcessError as error:
        raise NothingToCompare(error.stderr.decode(errors="replace").strip()) from None


def base_commit(root: Path = ROOT) -> str:
    """Where HEAD left the main branch; on the main branch its parent. Raises NothingToCompare."""
    head = git("rev-parse", "HEAD", root=root).decode().strip()
    for main in MAIN:
        try:
            base = git("merge-base", "HEAD", main, root=root).decode().strip()
        except NothingToCompare:
            continue
        return base if base != head else git("rev-parse", "HEAD^", root=root).decode().strip()
    raise NothingToCompare(f"there is no branch {MAIN[0]} with which this one has a commit in common")


def unpack(commit: str, folder: Path, root: Path = ROOT) -> Path:
    """The sources of `commit` below `folder`: no work tree that git would have to forget. Raises NothingToCompare."""
    with zipfile.ZipFile(io.BytesIO(git("archive", "--format=zip", commit, "src", root=root))) as archive:
        archive.extractall(folder)
    source = folder / "src"
    if not (source / "perdure").is_dir():  # Python would take the sources of this clone instead
        raise NothingToCompare(f"{commit[:12]} has no src/perdure")
    return source


def cost(source: Path, folder: Path) -> float:
    """Run the sources at `source` once. Raises CalledProcessError."""
    environment = {**os.environ, "PYTHONPATH": str(source)}
    command = [sys.executable, "-m", "perdure", *COMMAND]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)[FIGURE]


def verdict(before: Sequence[float], now: Sequence[float]) -> tuple[bool, str]:
    """Whether it passes, and a sentence on why."""
    ratio = min(now) / min(before)
    passed = ratio <= MARGIN
    said = (
        f"{min(now):.1f} us of CPU for each activity, {min(before):.1f} before: {ratio:.2f} times; "
        f"{'at most' if passed else 'more than'} {MARGIN}"
    )
    return passed, said


def main(root: Path = ROOT) -> int:
    with tempfile.TemporaryDirectory(prefix="perdure-regression-") as name:
        folder = Path(name)
        try:
            base = base_commit(root)
            earlier = unpack(base, folder, root)
        except NothingToCompare as reason:
            print(f"regression: nothing to compare with: {reason}")
            return 0
        before: list[float] = []
        now: list[float] = []
        for _ in range(ROUNDS):
            now.append(cost(root / "src", folder))
            try:
                before.append(cost(earlier, folder))
            except subprocess.CalledProcessError:
                print(f"regression: nothing to compare with: {base[:12]} does not run the benchmark here")
                return 0
        passed, said = verdict(before, now)
        print(f"regression against {base[:12]}: {'passed' if passed else 'FAILED'}: {said}")
    return 0 if passed else 1


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    sys.exit(main())
