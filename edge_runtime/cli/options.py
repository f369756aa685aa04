"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

from bindings.command_options import config_option, data_option, env_option, json_option, local_option

__all__ = [
    "config_option", "data_directory", "data_option", "env_option", "host_option", "json_option", "local_option",
    "port_option", "quiet_option",
]  # fmt: skip

DEFAULT_DATA = ".edge"

port_option = click.option(
    "--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="0 takes a free one."
)
host_option = click.option(
    "--ip", "host", default="localhost", show_default=True, help="Address to listen on; '' for all of this machine."
)
quiet_option = click.option("--quiet", is_flag=True, help="Print no line for events that went well.")


def data_directory(data_dir: Path | None, folder: Path) -> Path:
    return (data_dir or folder / DEFAULT_DATA).resolve()
