"""The options `--from` and `--to`."""

from __future__ import annotations

import click

from bindings.instant import Instant

from_option = click.option(
    "--from", "from_ms", type=Instant(), default=None, help="Hours from this time on; by default this month's."
)
to_option = click.option("--to", "to_ms", type=Instant(), default=None, help="Hours that begin before this time.")
