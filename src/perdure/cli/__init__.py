"""The command line: one module for each command.

A command imports what it needs when it runs, so that `perdure --help` is quick and `perdure start` loads only the host.
"""

from __future__ import annotations

import click

from perdure import __version__
from perdure.cli.bench import bench
from perdure.cli.start import start


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="perdure")
def main() -> None:
    """Durable Functions for Python, on your own machine."""


main.add_command(start)
main.add_command(bench)
