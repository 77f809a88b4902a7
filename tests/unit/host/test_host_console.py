"""What the console shows of the log, and of the functions."""

from __future__ import annotations

import io
import logging
import logging.config
import re
from collections.abc import Iterator

import pytest
from azure.functions.decorators.function_app import Function

from perdure.host.console import Console, functions_text
from perdure.host.indexing import AppFunctions, DurableFunction, HttpFunction, NotServed
from perdure.host.injection import Injection
from perdure.host.routes import Route

STAMP = re.compile(r"^\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] ", re.MULTILINE)


class Output:
    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.console = Console(self.stream)

    def attach(self) -> None:
        """As in a fresh process: pytest puts handlers of its own on the root logger when a test begins."""
        logging.getLogger().handlers[:] = []
        self.console.attach()

    @property
    def lines(self) -> list[str]:
        return STAMP.sub("", self.stream.getvalue()).splitlines()


@pytest.fixture
def output() -> Iterator[Output]:
    """A console, to be attached; all of it is put back at the end."""
    root = logging.getLogger()
    own = logging.getLogger("perdure")
    before = {logger: (logger.level, logger.propagate) for logger in (root, own)}
    handlers = list(root.handlers)
    result = Output()
    yield result
    result.console.detach()
    root.handlers[:] = handlers
    for logger, (level, propagate) in before.items():
        logger.setLevel(level)
        logger.propagate = propagate


def test_the_log_of_the_user_is_shown_from_info_on_with_the_time(output: Output) -> None:
    output.attach()
    logging.info("hello %s", "you")
    logging.debug("hidden")
    logging.getLogger("shop.orders").warning("low")
    assert output.lines == ["hello you", "WARNING: low"]
    assert len(STAMP.findall(output.stream.getvalue())) == 2


def test_the_log_of_the_host_is_shown_once(output: Output) -> None:
    output.attach()
    logging.getLogger("perdure.host").info("started")
    logging.getLogger("perdure.engine").debug("hidden")
    assert output.lines == ["started"]


def test_libraries_of_the_host_are_quiet(output: Output) -> None:
    output.attach()
    for name in ("uvicorn", "uvicorn.error", "asyncio"):
        logging.getLogger(name).info("noise")
        logging.getLogger(name).warning(name)
    assert output.lines == ["WARNING: uvicorn", "WARNING: uvicorn.error", "WARNING: asyncio"]


def test_a_traceback_follows_its_line(output: Output) -> None:
    output.attach()
    try:
        raise ValueError("boom")
    except ValueError:
        logging.exception("it failed")
    assert output.lines[0] == "ERROR: it failed"
    assert output.lines[-1] == "ValueError: boom"


def test_a_handler_of_the_app_takes_the_users_log_over_and_no_line_appears_twice(output: Output) -> None:
    output.attach()
    own = io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(own))
    output.console.yield_to_app()
    logging.info("mine")
    logging.getLogger("perdure.host").info("the host's")
    assert own.getvalue() == "mine\n"
    assert output.lines == ["the host's"]


def test_a_level_of_the_app_holds(output: Output) -> None:
    output.attach()
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("shop").setLevel(logging.DEBUG)
    output.console.yield_to_app()
    logging.warning("hidden")
    logging.getLogger("shop").debug("details")
    assert output.lines == ["details"]


def test_a_logging_configuration_of_the_app_does_not_silence_the_host(output: Output) -> None:
    output.attach()
    log = logging.getLogger("perdure.host")
    logging.config.dictConfig({"version": 1, "root": {"level": "ERROR"}})
    output.console.yield_to_app()
    log.info("still there")
    assert output.lines == ["still there"]


def http(name: str, template: str, *methods: str) -> HttpFunction:
    return HttpFunction(name, print, "req", Injection((), False), frozenset(methods), Route(template), True)


def test_functions_are_listed_with_urls_first_and_what_is_missing_last() -> None:
    durable = [
        DurableFunction(name, called, trigger, Function(print, "function_app.py"), Injection((), False))
        for name, called, trigger in (
            ("order_saga", "OrderSaga", "orchestrationTrigger"),
            ("work", "work", "activityTrigger"),
        )
    ]
    functions = AppFunctions(
        [http("start", "api/orders/{id?}", "POST", "GET"), http("any", "api/any")],
        durable,
        [NotServed("nightly", "Perdure has no timerTrigger")],
        ["old"],
    )
    assert functions_text(functions, "http://localhost:7071") == (
        "Functions:\n\n"
        "\tstart: [GET,POST] http://localhost:7071/api/orders/{id?}\n\n"
        "\tany: http://localhost:7071/api/any\n\n"
        "\torder_saga: orchestrationTrigger (OrderSaga)\n\n"
        "\twork: activityTrigger\n\n"
        "Not served:\n\n"
        "\tnightly: Perdure has no timerTrigger\n\n"
        "Function old is disabled.\n"
    )


def test_an_app_without_functions_says_so() -> None:
    assert functions_text(AppFunctions([], [], [], []), "http://localhost:7071") == "Functions:\n\n\tnone\n"
