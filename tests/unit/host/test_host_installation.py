"""The three states of `azure.durable_functions` on the import path, in real folders and a process of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import azure.durable_functions as ours
import azure.functions
import click
import msgspec
import pytest

import perdure

THEIRS = "from .orchestrator import Orchestrator\n"
UNINSTALL = "-m pip uninstall -y azure-functions-durable"
REINSTALL = "-m pip install --force-reinstall --no-deps ."


class Site:
    """A folder of an import path, with Perdure and what it needs to say what is wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "azure" / "durable_functions"

    def install_ours(self) -> None:
        shutil.copytree(Path(ours.__file__).parent, self.package, dirs_exist_ok=True)

    def install_theirs(self) -> None:
        self.package.mkdir(parents=True, exist_ok=True)
        (self.package / "__init__.py").write_text(THEIRS)
        (self.package / "orchestrator.py").write_text("raise AssertionError('it must not be imported')\n")
        (self.folder / "azure_functions_durable-1.4.0.dist-info").mkdir()

    def uninstall_theirs(self) -> None:
        """As pip does: the files of its record go, shared or not; what is left of ours stays."""
        shutil.rmtree(self.folder / "azure_functions_durable-1.4.0.dist-info")
        (self.package / "__init__.py").unlink()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    folder = tmp_path / "site-packages"
    for package in (perdure, click, msgspec):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    functions = Path(azure.functions.__file__).parent
    shutil.copytree(functions, folder / "azure" / "functions", ignore=shutil.ignore_patterns("__pycache__"))
    return Site(folder)


def start(*sites: Site) -> subprocess.CompletedProcess[str]:
    """`perdure start` on a folder that is no app, with nothing on the import path but `sites`."""
    path = [str(site.folder) for site in sites]
    code = f"import sys; sys.path[1:1] = {path!r}; from perdure.cli import main; main(['start', 'nowhere'])"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False, cwd=sites[0].folder
    )


def assert_refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert done.returncode == 1
    assert message in done.stderr
    assert f"{sys.executable} {UNINSTALL}\n" in done.stderr
    assert f"{sys.executable} {REINSTALL}\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_ours_alone_is_taken(site: Site) -> None:
    site.install_ours()
    assert UNINSTALL not in start(site).stderr


def test_theirs_installed_over_ours_is_refused(site: Site) -> None:
    site.install_ours()
    site.install_theirs()
    assert_refused(start(site), f"azure.durable_functions in {site.folder} is that of Microsoft's")


def test_ours_installed_over_theirs_is_refused_as_theirs_is_still_registered(site: Site) -> None:
    site.install_theirs()
    site.install_ours()
    assert_refused(start(site), f"Microsoft's azure-functions-durable is installed in {site.folder} too")


def test_what_uninstalling_theirs_leaves_is_refused(site: Site) -> None:
    site.install_ours()
    site.install_theirs()
    site.uninstall_theirs()
    assert_refused(start(site), f"azure.durable_functions in {site.folder} is empty")


def test_no_trace_of_the_package_is_refused(site: Site) -> None:
    assert_refused(start(site), "azure.durable_functions is empty")


def test_theirs_in_a_folder_before_ours_is_refused(site: Site, tmp_path: Path) -> None:
    site.install_ours()
    other = Site(tmp_path / "other")
    other.install_theirs()
    assert_refused(start(other, site), f"azure.durable_functions in {other.folder} is that of Microsoft's")


def test_theirs_in_a_folder_behind_ours_does_no_harm(site: Site, tmp_path: Path) -> None:
    site.install_ours()
    other = Site(tmp_path / "other")
    other.install_theirs()
    assert UNINSTALL not in start(site, other).stderr
