"""The steps that touch the world: each may run more than once, and does no harm by it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import azure.durable_functions as df

import counting
import packages
from ledger import Ledger

bp = df.Blueprint()

directory = Path(os.environ.get("WORDCOUNT_DIRECTORY") or Path(tempfile.gettempdir()) / "perdure-wordcount")
reports = directory / "reports"
ledger = Ledger(directory / "ledger.txt")


@bp.activity_trigger(input_name="roots")
def find_packages(roots: dict[str, str]) -> list[packages.Package]:
    return packages.find(roots)


@bp.activity_trigger(input_name="package")
def open_package(package: packages.Package) -> list[str]:
    """Begin the package's report and return the paths of its files."""
    reports.mkdir(parents=True, exist_ok=True)
    unfinished_report(package["name"]).write_text("")
    return packages.python_files(package["directory"])


@bp.activity_trigger(input_name="path")
def count_file(path: str) -> counting.Count:
    attempt = ledger.started(path)
    try:
        if attempt == 1 and stumbles(path):
            raise ConnectionError(f"the connection to {path} was lost, as it is now and then")
        figures = counting.count(path)
    except Exception:
        ledger.failed(path, attempt)
        raise
    ledger.finished(path, attempt)
    return figures


@bp.activity_trigger(input_name="totals")
def close_package(totals: dict[str, Any]) -> None:
    """Put the finished report in the place of the unfinished one."""
    unfinished = unfinished_report(totals["name"])
    unfinished.write_text(json.dumps(totals))
    unfinished.replace(unfinished.with_suffix(".json"))


@bp.activity_trigger(input_name="package")
def clean_up(package: packages.Package) -> str:
    """Take the unfinished report of a package away, and return its name."""
    unfinished = unfinished_report(package["name"])
    unfinished.unlink(missing_ok=True)
    return unfinished.name


@bp.activity_trigger(input_name="totals")
def summarize(totals: list[dict[str, Any]]) -> dict[str, int]:
    """The sums over all packages."""
    figures = ("files", "lines", "words", "identifiers", "undecodable")
    return {figure: sum(package[figure] for package in totals) for figure in figures}


def stumbles(path: str) -> bool:
    """Whether the first attempt at a file fails: so it is for a tenth of them, the same ones in every run."""
    return hashlib.sha256(path.encode()).digest()[0] % 10 == 0


def unfinished_report(package: str) -> Path:
    return reports / f"{package}.unfinished"
