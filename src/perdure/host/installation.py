"""Whether `azure.durable_functions` is ours.

Microsoft's `azure-functions-durable` shares this import path, and pip does not guard it: whichever of the two is
installed last overwrites files of the other without a word, and uninstalling either takes the shared files away, so
that what stays is a namespace without our `__init__.py`. Nothing is imported to find out: theirs may fail, or be slow.

`azure` itself is a namespace that many distributions share, so its folders are looked through in the order of the
import path. Theirs in a folder behind ours does no harm and is not reported.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Literal

from perdure.host.problems import StartProblem

State = Literal["ours", "theirs", "mixed", "missing"]
"""`theirs`: their code is found. `mixed`: ours is, in a folder where theirs is installed too. `missing`: neither."""

_MARK = "perdure"
_THEIR_METADATA = "azure_functions_durable-*.dist-info"


class BrokenInstallation(StartProblem):
    """`azure.durable_functions` is not ours, or not whole."""


def check_installation() -> None:
    """Raises BrokenInstallation, which tells the two commands that repair it."""
    state, folder = inspect_installation()
    where = f" in {folder}" if folder is not None else ""
    match state:
        case "ours":
            return
        case "theirs":
            message = f"azure.durable_functions{where} is that of Microsoft's azure-functions-durable, not Perdure's."
        case "mixed":
            message = (
                f"Microsoft's azure-functions-durable is installed{where} too. It shares azure.durable_functions with "
                "Perdure: the files of one overwrite those of the other."
            )
        case "missing":
            message = f"azure.durable_functions{where} is empty: uninstalling azure-functions-durable took it away."
    pip = f"{sys.executable} -m pip"
    raise BrokenInstallation(
        message,
        advice="These two commands repair it; type the second in the folder of your clone of Perdure:\n"
        f"  {pip} uninstall -y azure-functions-durable\n"
        f"  {pip} install --force-reinstall --no-deps .",
    )


def inspect_installation() -> tuple[State, Path | None]:
    """The state, and the folder (of the import path) that it was found in."""
    package = _find_package()
    if package is None:
        return "missing", _leftover()
    site = package.parent.parent
    source = package / "__init__.py"
    if not source.is_file() or _MARK not in source.read_text(encoding="utf-8", errors="replace").lower():
        return "theirs", site
    if any(site.glob(_THEIR_METADATA)):
        return "mixed", site
    return "ours", site


def _find_package() -> Path | None:
    """The folder of the package that `import azure.durable_functions` would run, if there is an `__init__` in it."""
    try:
        spec = importlib.util.find_spec("azure.durable_functions")
    except ModuleNotFoundError:  # there is no `azure` at all
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _leftover() -> Path | None:
    """Where a folder of the package's name is left, without an `__init__` that would make it ours or theirs."""
    folders = (Path(entry or ".") for entry in sys.path)
    return next((folder for folder in folders if (folder / "azure" / "durable_functions").is_dir()), None)
