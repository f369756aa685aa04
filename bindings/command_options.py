"""Options that commands share, those of `edge` itself and those of the kinds of bindings: where the data is, which
configuration counts, how to print. Their names are wrangler's where it has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Any], Any]

data_option: Option = click.option(
    "--data",
    "--persist-to",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Data directory; by default .edge in the worker's folder.",
)
config_option: Option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, exists=True),
    default=None,
    help="Configuration file, or the worker's folder.",
)
env_option: Option = click.option(
    "-e", "--env", "environment", default=None, help="Section [env.NAME] of the configuration."
)
local_option: Option = click.option("--local", is_flag=True, expose_value=False, hidden=True, help="Always so here.")
json_option: Option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def with_options(*options: Option) -> Callable[[Command], Command]:
    """One decorator of several; `--help` shows them in this order."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
