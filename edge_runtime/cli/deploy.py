"""`edge deploy`: send a worker to a running `edge run`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.options import data_directory, data_option, env_option
from edge_runtime.errors import ScriptError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@data_option
@env_option
def deploy(folder: Path, data_dir: Path | None, environment: str | None) -> None:
    """Send the worker in FOLDER to the `edge run` that holds the data directory (by default .edge in this folder).

    The new version is loaded first: if it does not load, the old one goes on serving. The bundle is kept in the data
    directory and served again after a restart. .dev.vars goes along as the worker's secrets.
    """
    from edge_runtime.supervisor import admin_client

    try:
        deployed = admin_client.deploy(data_directory(data_dir, Path.cwd()), folder, environment)
    except ScriptError as error:
        if error.detail:
            click.echo(error.detail, err=True)
        raise
    click.echo(f"deployed {deployed.name}, version {deployed.version}")
