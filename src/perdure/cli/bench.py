"""`perdure bench`: what durability costs on this machine."""

from __future__ import annotations

import json

import click


@click.group(short_help="Measure this machine.")
def bench() -> None:
    """Measure what durability costs on this machine, with the host and the client that functions use."""


@bench.command(short_help="Three activities, one after the other.")
@click.option("--clients", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Callers at once.")
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True, help="Orchestrations in all.")
@click.option("--store", metavar="URL", help="A store that does not exist yet.  [default: a SQLite file below here]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def hello(clients: int, count: int, store: str | None, as_json: bool) -> None:
    """Run COUNT orchestrations of three plain activities each and print how fast they were."""
    from perdure.bench.measure import bench_hello
    from perdure.core.errors import CallerError
    from perdure.host.problems import StartProblem

    try:
        figures = bench_hello(clients, count, store)
    except (CallerError, StartProblem) as problem:
        raise click.ClickException(str(problem)) from problem
    if as_json:
        click.echo(json.dumps(figures))
        return
    latency = figures["latency_ms"]
    click.echo(f"hello: {count} orchestrations, {clients} clients, {figures['store']}")
    click.echo(f"  {figures['orchestrations_per_second']:>10,.0f} orchestrations a second")
    click.echo(f"  {figures['activities_per_second']:>10,.0f} activities a second")
    click.echo(f"  {latency['p50']:>10,.2f} ms median, {latency['p95']:,.2f} p95, {latency['p99']:,.2f} p99")
    click.echo(f"  {figures['cpu_us_per_activity']:>10,.0f} us of CPU for each activity")
