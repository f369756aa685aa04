"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

DEFAULT_DATA = ".edge"

data_option = click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Data directory; by default .edge in the worker's folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
env_option = click.option("-e", "--env", "environment", default=None, help="Section [env.NAME] of the configuration.")
port_option = click.option(
    "--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="0 takes a free one."
)
host_option = click.option(
    "--ip", "host", default="localhost", show_default=True, help="Address to listen on; '' for all of this machine."
)
quiet_option = click.option("--quiet", is_flag=True, help="Print no line for events that went well.")


def data_directory(data_dir: Path | None, folder: Path) -> Path:
    return (data_dir or folder / DEFAULT_DATA).resolve()
