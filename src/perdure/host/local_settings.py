"""local.settings.json: the app settings of a developer's machine, which become environment variables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, cast

from msgspec import Struct

from perdure.host.configuration import read_json_object
from perdure.host.problems import SettingsProblem

log = logging.getLogger("perdure.host")


class LocalHost(Struct, frozen=True):
    """The section `Host`: where to listen, unless something else says it."""

    port: str | None = None
    address: str | None = None


def apply_local_settings(app_root: Path, environment: MutableMapping[str, str]) -> LocalHost:
    """Put `Values` into `environment`, where what is there already wins.

    A file that is not valid JSON is told of and left out. Raises SettingsProblem if the values are encrypted.
    """
    file = app_root / "local.settings.json"
    try:
        content = read_json_object(file)
    except FileNotFoundError:
        return LocalHost()
    except (OSError, ValueError) as error:
        log.warning("%s is left out: %s", file, error)
        return LocalHost()
    sections = _lowered(content)
    values = _section(sections, "values", file)
    # Encrypted is what the file is by default; the key to it is kept by the tool that wrote it.
    if values and sections.get("isencrypted", True) is not False:
        raise SettingsProblem(
            f"{file}: Failed to decrypt settings. Encrypted settings are not supported.",
            advice='Run `func settings decrypt`, or write the values in plain text and add "IsEncrypted": false.',
        )
    _export(values, environment)
    host = _lowered(_section(sections, "host", file))
    return LocalHost(port=_setting_text(host.get("localhttpport")), address=_setting_text(host.get("localhttpaddress")))


def _lowered(section: dict[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in section.items()}


def _section(sections: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    section: Any = sections.get(name) or {}
    if isinstance(section, dict):
        return cast("dict[str, Any]", section)
    log.warning("%s: %r is left out: it is not a JSON object", file, name)
    return {}


def _export(values: Mapping[str, Any], environment: MutableMapping[str, str]) -> None:
    for name, value in values.items():
        text = _setting_text(value)
        if text is None:
            log.warning("local.settings.json: %r is skipped: its value is not a text", name)
        elif name in environment:
            log.info(
                "Skipping '%s' from local settings as it's already defined in current environment variables.", name
            )
        else:
            environment[name] = text


def _setting_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return None
