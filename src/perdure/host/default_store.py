"""The store that an app has when none is named: an SQLite file in `.perdure/`, beside the app."""

from __future__ import annotations

from pathlib import Path

from perdure.host.problems import SettingsProblem

FOLDER = ".perdure"
DEFAULT_STORE = f"sqlite:///{FOLDER}/hub.db"


def prepare_default_store(app_root: Path) -> str:
    """Make the folder, for its owner only and out of version control, and return the store's URL, relative to the app.

    Where an owner is not a matter of permissions (Windows) the access rules that the folder inherits hold.
    Raises SettingsProblem.
    """
    folder = app_root / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
            ignore.chmod(0o600)
    except OSError as error:
        raise SettingsProblem(
            f"The store cannot be kept in {folder}: {error.strerror or error}.",
            advice="Make the app's folder writable, or choose another place: --store sqlite:////absolute/path.db",
        ) from error
    return DEFAULT_STORE
