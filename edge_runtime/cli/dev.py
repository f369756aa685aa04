"""`edge dev`: one worker, served from its folder and reloaded as its files change."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.options import (
    config_option,
    data_directory,
    data_option,
    env_option,
    host_option,
    local_option,
    port_option,
    quiet_option,
)
from edge_runtime.limits import DEV_DRAIN_GRACE_S


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True), required=False)
@port_option
@host_option
@data_option
@config_option
@env_option
@local_option
@click.option("--var", "variables", multiple=True, metavar="NAME:VALUE", help="Set a variable of the worker.")
@click.option("--no-reload", is_flag=True, help="Do not watch the files.")
@quiet_option
def dev(
    folder: Path | None,
    port: int,
    host: str,
    data_dir: Path | None,
    config: Path | None,
    environment: str | None,
    variables: tuple[str, ...],
    no_reload: bool,
    quiet: bool,
) -> None:
    """Serve the worker in FOLDER (by default this one), reloading it as its files change.

    State is kept in the data directory and survives reloads and restarts. Errors of the script are shown to clients.
    """
    from edge_runtime.cli.serve import ServeOptions, serve

    if folder is not None and config is not None:
        raise click.UsageError("give one of FOLDER and --config")
    worker = folder or config or Path()
    root = worker if worker.is_dir() else worker.parent
    serve(
        ServeOptions(
            host=host,
            port=port,
            data_dir=data_directory(data_dir, root),
            development=True,
            workers=(worker,),
            environment=environment,
            variables=_pairs(variables),
            grace_s=DEV_DRAIN_GRACE_S,
            watch=not no_reload,
            quiet=quiet,
            as_json=False,
        )
    )


def _pairs(variables: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for variable in variables:
        name, colon, value = variable.partition(":")
        if not colon or not name.isidentifier():
            raise click.BadParameter(f"{variable!r} is not NAME:VALUE", param_hint="--var")
        pairs.append((name, value))
    return tuple(pairs)
