"""`perdure bench`: what durability costs on this machine."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

_PARAGRAPH = "\n\n"
_store = click.option(
    "--store", metavar="URL", help="A store that does not exist yet.  [default: a SQLite file below here]"
)
_floor = click.option("--no-floor", is_flag=True, help="Leave out the same work without the engine.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@contextmanager
def _exit_codes_of_signals() -> Generator[None]:
    """Let Ctrl-C and SIGTERM end what runs within, which cleans up behind itself, and make the exit code theirs."""
    ended_by = signal.SIGINT

    def as_by_ctrl_c(number: int, frame: FrameType | None) -> None:
        nonlocal ended_by
        ended_by = signal.Signals(number)
        handler = signal.getsignal(signal.SIGINT)  # an event loop that runs has put its own there
        if not callable(handler):  # ignored: a shell starts so what is to run in the background
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, as_by_ctrl_c) if main_thread else None
    try:
        yield
    except KeyboardInterrupt:
        from perdure.host.signals import exit_code

        raise SystemExit(exit_code(ended_by)) from None
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before)


class _BenchGroup(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        with _exit_codes_of_signals():
            return super().invoke(ctx)


@click.group(cls=_BenchGroup, short_help="Measure this machine.")
def bench() -> None:
    """Measure what durability costs on this machine, with the host and the client that functions use."""


@bench.command(short_help="Many short orchestrations.")
@click.option("--clients", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Callers at once.")
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True, help="Orchestrations in all.")
@_store
@_floor
@_json
def hello(clients: int, count: int, store: str | None, no_floor: bool, as_json: bool) -> None:
    """Run COUNT orchestrations of three plain activities each and print how fast they were."""
    from perdure.bench.hello import bench_hello

    _show(as_json, bench_hello, clients, count, store, floor=not no_floor)


@bench.command(short_help="One orchestration, many activities at once.")
@click.option("--width", type=click.IntRange(1), default=10_000, show_default=True, help="Activities.")
@_store
@_floor
@_json
def fanout(width: int, store: str | None, no_floor: bool, as_json: bool) -> None:
    """Run one orchestration that waits for WIDTH plain activities at once."""
    from perdure.bench.single import bench_fanout

    _show(as_json, bench_fanout, width, store, floor=not no_floor)


@bench.command(short_help="One orchestration, many activities in a row.")
@click.option("--length", type=click.IntRange(1), default=10_000, show_default=True, help="Activities.")
@_store
@_floor
@_json
def chain(length: int, store: str | None, no_floor: bool, as_json: bool) -> None:
    """Run one orchestration of LENGTH plain activities, each of which needs the result of the one before."""
    from perdure.bench.single import bench_chain

    _show(as_json, bench_chain, length, store, floor=not no_floor)


@bench.command(short_help="A start with many instances that wait.")
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True, help="Waiting for an event.")
@click.option("--timers", type=click.IntRange(0), metavar="N", help="Waiting for a timer.  [default: COUNT]")
@click.option("--ready-only", is_flag=True, help="Measure the start and raise no event.")
@click.option("--fill-only", is_flag=True, help="Fill the store and leave it to runs with --filled.")
@click.option("--filled", is_flag=True, help="Take the store as a run with --fill-only has left it.")
@_store
@_json
def parked(
    count: int, timers: int | None, ready_only: bool, fill_only: bool, filled: bool, store: str | None, as_json: bool
) -> None:
    """Park COUNT instances that wait for an event and as many that wait for a timer in a month; start a host on them,
    raise one event, then all others."""
    from perdure.bench.parked import bench_parked

    if (fill_only or filled) and store is None:
        raise click.UsageError("--fill-only and --filled need --store.")
    if fill_only and filled:
        raise click.UsageError("--fill-only fills the store, --filled takes it as it is: give one of them.")
    _show(
        as_json,
        bench_parked,
        count,
        count if timers is None else timers,
        store,
        fill=not filled,
        measure=not fill_only,
        raise_events=not ready_only,
    )


@bench.command(short_help="Instances brought back from their history.")
@click.option("--events", type=click.IntRange(1), default=20_000, show_default=True, help="Events in the history.")
@_store
@_json
def replay(events: int, store: str | None, as_json: bool) -> None:
    """Build orchestrations with EVENTS events in their histories, start another host, and time how each is brought
    back."""
    from perdure.bench.replay import bench_replay

    _show(as_json, bench_replay, events, store)


def _show(as_json: bool, run: Callable[..., dict[str, Any]], *given: Any, **named: Any) -> None:
    from perdure.bench.summary import summary
    from perdure.core.errors import CallerError
    from perdure.host.problems import StartProblem

    try:
        figures = run(*given, **named)
    except StartProblem as problem:
        click.echo(f"Error: {' '.join(str(problem).split(_PARAGRAPH))}", err=True)
        raise SystemExit(problem.exit_code) from problem
    except CallerError as problem:
        raise click.ClickException(str(problem)) from problem
    click.echo(json.dumps(figures) if as_json else summary(figures))
