"""Another process on the same file. Run as a script, it does what it is told on standard input, a line at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.store.sqlite import SqliteStore

SCRIPT = Path(__file__)


class OtherProcess:
    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.answer()

    def answer(self) -> str:
        return self.process.stdout.readline().strip()

    def ask(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def other_process(path: Path) -> Iterator[OtherProcess]:
    other = OtherProcess(path)
    try:
        yield other
    finally:
        other.kill()
        other.process.stdin.close()
        other.process.stdout.close()


def main(path: Path) -> None:
    from store_rows import Lane, history, instance

    store = SqliteStore(path, "hub")
    print("open", flush=True)
    lane: Lane | None = None
    for line in sys.stdin:
        match line.split():
            case ["host"]:
                lane = Lane(store)
                print(lane.host.id, flush=True)
            case ["commit", count]:
                assert lane is not None
                for n in range(int(count)):
                    lane.commit(history=[history(lane.first + 1, lane.number)])
                    print(n, flush=True)
            case ["start", id]:
                print(store.submit_start(instance(0, id), b"{}"), flush=True)
            case ["poll"]:
                print(store.poll(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
