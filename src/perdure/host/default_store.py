"""The store that an app has when none is named: an SQLite file in `.perdure/`, beside the app."""

from __future__ import annotations

from pathlib import Path

from perdure.host.problems import SettingsProblem

FOLDER = ".perdure"
DEFAULT_STORE = f"sqlite:///{FOLDER}/hub.db"
_HUB_NAME = "hub-name"


def remembered_hub_name(app_root: Path) -> str | None:
    """The hub that the default store of this app was made for, so that a renamed folder finds its instances."""
    try:
        return (app_root / FOLDER / _HUB_NAME).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def prepare_default_store(app_root: Path, hub: str) -> str:
    """Make the folder, for its owner only and out of version control, and return the store's URL, relative to the app.

    The name of the first hub is remembered. Where an owner is not a matter of permissions (Windows) the access rules
    that the folder inherits hold.
    Raises SettingsProblem.
    """
    folder = app_root / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        _write_once(folder / ".gitignore", "*\n")
        _write_once(folder / _HUB_NAME, f"{hub}\n")
    except OSError as error:
        raise SettingsProblem(
            f"The store cannot be kept in {folder}: {error.strerror or error}.",
            advice="Make the app's folder writable, or choose another place: --store sqlite:////absolute/path.db",
        ) from error
    return DEFAULT_STORE


def _write_once(file: Path, text: str) -> None:
    if not file.exists():
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
