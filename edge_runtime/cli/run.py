"""`edge run`: deployed workers, for production."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.options import (
    data_directory,
    data_option,
    env_option,
    host_option,
    json_option,
    port_option,
    quiet_option,
)
from edge_runtime.errors import UsageError
from edge_runtime.limits import DRAIN_GRACE_S

_CONFIGURATIONS = ("wrangler.jsonc", "wrangler.json", "wrangler.toml")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@port_option
@host_option
@data_option
@env_option
@click.option("--grace-s", type=click.FloatRange(0), default=DRAIN_GRACE_S, show_default=True)
@quiet_option
@json_option
def run(
    folder: Path | None,
    port: int,
    host: str,
    data_dir: Path | None,
    environment: str | None,
    grace_s: float,
    quiet: bool,
    as_json: bool,
) -> None:
    """Serve deployed workers, routed by host and path.

    FOLDER holds a worker in each of its folders (or is one itself). Workers sent by `edge deploy` are kept in the data
    directory and served besides. --grace-s is how long requests in progress may take when a worker is replaced or the
    server stops.
    """
    from edge_runtime.cli.serve import ServeOptions, serve

    serve(
        ServeOptions(
            host=host,
            port=port,
            data_dir=data_directory(data_dir, folder or Path.cwd()),
            development=False,
            workers=() if folder is None else _workers(folder),
            environment=environment,
            variables=(),
            grace_s=grace_s,
            watch=False,
            quiet=quiet,
            as_json=as_json,
        )
    )


def _workers(folder: Path) -> tuple[Path, ...]:
    if _is_worker(folder):
        return (folder,)
    found = tuple(path for path in sorted(folder.iterdir()) if path.is_dir() and _is_worker(path))
    if not found:
        raise UsageError(f"no worker in {folder}: neither it nor a folder in it has a {' or '.join(_CONFIGURATIONS)}")
    return found


def _is_worker(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _CONFIGURATIONS)
