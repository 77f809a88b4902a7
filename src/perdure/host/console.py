"""What the console shows: the app's functions at start, and the log.

The log goes to standard output: the user's at INFO, the host's at INFO, libraries of the host at WARNING. The handler
sits on the root logger while the app is loaded; if the app has put a handler of its own there, that one shows the
user's log and ours is taken away, so that no line appears twice. The host's own lines do not pass the root logger.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import TextIO

from perdure.host.indexing import AppFunctions, HttpFunction

_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio")


class LineFormatter(logging.Formatter):
    """`[2024-05-01T12:00:00.123Z] text`; above INFO the level is named."""

    converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", self.converter(record.created))
        level = f"{record.levelname}: " if record.levelno > logging.INFO else ""
        return f"[{stamp}.{int(record.msecs):03d}Z] {level}{text}"


class Console:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._handler = logging.StreamHandler(stream)
        self._handler.setFormatter(LineFormatter())

    def attach(self) -> None:
        """Before the app is loaded."""
        root = logging.getLogger()
        root.addHandler(self._handler)
        root.setLevel(logging.INFO)
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        own = logging.getLogger("perdure")
        own.addHandler(self._handler)
        own.setLevel(logging.INFO)
        own.propagate = False

    def yield_to_app(self) -> None:
        """After the app was loaded: respect what it did to the logging."""
        root = logging.getLogger()
        if any(handler is not self._handler for handler in root.handlers):
            root.removeHandler(self._handler)
        # `dictConfig` disables every logger that it is not told of.
        for name, logger in logging.Logger.manager.loggerDict.items():
            if name.partition(".")[0] == "perdure" and isinstance(logger, logging.Logger):
                logger.disabled = False

    def detach(self) -> None:
        for logger in (logging.getLogger(), logging.getLogger("perdure")):
            logger.removeHandler(self._handler)
        logging.getLogger("perdure").propagate = True

    def show(self, text: str = "") -> None:
        print(text, file=self._stream, flush=True)


def make_printable(streams: Iterable[TextIO] = (sys.stdout, sys.stderr)) -> None:
    """Let lines appear at once, also through a pipe, and let no character of a log be an error."""
    for stream in streams:
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True, errors="backslashreplace")


def functions_text(functions: AppFunctions, url: str) -> str:
    """The list of functions: HTTP first, with their URLs, then the others with their triggers.

    A function that is called by another name than its own has that one in parentheses.
    """
    lines = ["Functions:", ""]
    for function in functions.http:
        lines += [f"\t{function.name}: {_methods(function)}{url}/{function.route.template}", ""]
    for function in functions.durable:
        called = f" ({function.called})" if function.called != function.name else ""
        lines += [f"\t{function.name}: {function.trigger}{called}", ""]
    if not functions.http and not functions.durable:
        lines += ["\tnone", ""]
    if functions.not_served:
        lines += ["Not served:", ""]
        for missing in functions.not_served:
            lines += [f"\t{missing.name}: {missing.reason}", ""]
    lines += [f"Function {name} is disabled." for name in functions.disabled]
    return "\n".join(lines).rstrip("\n") + "\n"


def _methods(function: HttpFunction) -> str:
    return f"[{','.join(sorted(function.methods))}] " if function.methods else ""
