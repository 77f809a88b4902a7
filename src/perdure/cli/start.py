"""`perdure start`: serve a function app."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command(short_help="Serve a function app.")
@click.argument("app_dir", required=False, envvar="PERDURE_APP_DIR", type=click.Path(path_type=Path))
@click.option("--host", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Port to listen on; 0 takes a free one.  [default: 7071]",
)
@click.option(
    "--store",
    metavar="URL",
    help="Where the task hub is kept: memory://, sqlite:///relative.db, sqlite:////absolute.db.  "
    "[default: .perdure/hub.db in APP_DIR]",
)
@click.option("--insecure", is_flag=True, default=None, help="Allow a --host that other machines can reach.")
@click.option("--wait", is_flag=True, default=None, help="Wait while another process serves the store.")
@click.option(
    "--grace",
    "grace_seconds",
    type=click.FloatRange(min=0, max=86400),
    metavar="SECONDS",
    help="How long running activities may go on after the first Ctrl-C.  [default: 30]",
)
@click.option(
    "--synchronous",
    type=click.Choice(["full", "normal", "off"]),
    help="What SQLite waits for at a commit. In a power cut, normal may lose the last commits and off may damage the "
    "file.  [default: full]",
)
def start(app_dir: Path | None, **given: Any) -> None:
    """Serve the function app in APP_DIR (by default the current folder) until Ctrl-C or SIGTERM."""
    from perdure.host.problems import StartProblem

    try:
        from perdure.host.installation import check_installation

        check_installation()
        from perdure.host.app import run
        from perdure.host.settings import CommandLine

        code = run((app_dir or Path.cwd()).resolve(), CommandLine(**given))
    except StartProblem as problem:
        click.echo(str(problem), err=True)
        code = problem.exit_code
    raise SystemExit(code)
