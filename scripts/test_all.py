"""Run the tests on each supported Python that is on this machine, each in an environment of its own under `.venvs/`.

An interpreter counts as present if it is on the PATH or among pyenv's, and starts: pyenv puts `python3.12` on the PATH
even where its only answer is that no such version is selected.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.11", "3.12", "3.13")


def candidates(version: str) -> list[Path]:
    found: list[Path] = []
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        found.append(Path(on_path))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found.extend(sorted(pyenv.glob(f"versions/{version}*/bin/python{version}"), reverse=True))
    return found


def starts_as(interpreter: Path, version: str) -> bool:
    program = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([interpreter, "-c", program], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.strip() == version


def run_tests(interpreter: Path, version: str, workers: int, arguments: list[str]) -> bool:
    environment = ROOT / ".venvs" / version
    python = environment / "bin" / "python"
    commands: list[list[str | Path]] = [
        [interpreter, "-m", "venv", environment],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", ".[dev]"],
        [python, "-m", "pytest", "-n", str(workers), "--dist", "loadfile", *arguments],
    ]
    return all(subprocess.run(command, cwd=ROOT).returncode == 0 for command in commands)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes that run tests side by side")
    options, arguments = parser.parse_known_args()

    outcome: dict[str, str] = {}
    for version in VERSIONS:
        interpreter = next((path for path in candidates(version) if starts_as(path, version)), None)
        if interpreter is None:
            outcome[version] = "absent"
            continue
        print(f"\n=== Python {version}: {interpreter}", flush=True)
        outcome[version] = "passed" if run_tests(interpreter, version, options.workers, arguments) else "FAILED"

    print("\n=== " + ", ".join(f"Python {version} {how}" for version, how in outcome.items()))
    return 0 if "passed" in outcome.values() and "FAILED" not in outcome.values() else 1


if __name__ == "__main__":
    sys.exit(main())
