"""Times in the texts of the management API; microseconds since the Unix epoch, UTC, on our side."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ISO = re.compile(
    r"(?P<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?P<time>\d{2}:\d{2}(?::\d{2})?)(?:\.(?P<fraction>\d+))?)?"
    r"\s*(?P<zone>Z|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
_OTHERS = ("%m/%d/%Y", "%m/%d/%Y %H:%M:%S", "%a, %d %b %Y %H:%M:%S GMT")


def parse_date(text: str) -> int | None:
    """The time that `text` names, in ISO 8601 or as `MM/dd/yyyy [HH:mm:ss]`; None if it names none.

    Without a zone it is UTC. Fractions beyond microseconds, which .NET writes, are cut.
    """
    text = text.strip()
    moment = _iso(text)
    for form in _OTHERS:
        if moment is None:
            moment = _with_form(text, form)
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def whole_seconds(micros: int) -> str:
    """`yyyy-MM-ddTHH:mm:ssZ`"""
    return f"{_EPOCH + timedelta(seconds=micros // 1_000_000):%Y-%m-%dT%H:%M:%SZ}"


def with_fraction(micros: int) -> str:
    """`yyyy-MM-ddTHH:mm:ss.ffffffZ`"""
    return f"{_EPOCH + timedelta(microseconds=micros):%Y-%m-%dT%H:%M:%S.%fZ}"


def _iso(text: str) -> datetime | None:
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    time = found["time"] or "00:00"
    time = f"{time}:00" if len(time) == 5 else time
    fraction = (found["fraction"] or "").ljust(6, "0")[:6]
    zone = (found["zone"] or "Z").upper().replace(":", "")
    zone = "+0000" if zone == "Z" else zone
    return _with_form(f"{found['date']}T{time}.{fraction}{zone}", "%Y-%m-%dT%H:%M:%S.%f%z")


def _with_form(text: str, form: str) -> datetime | None:
    try:
        moment = datetime.strptime(text, form)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
