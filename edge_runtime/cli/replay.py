"""`edge replay`: recorded workflow instances against the script as it is now, for continuous integration."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.options import json_option
from edge_runtime.cli.tables import print_rows
from edge_runtime.errors import EdgeError, UsageError

_COLUMNS = ("file", "workflow", "instance", "steps", "beyond")


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE..."
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, exists=True),
    default=Path(),
    help="Configuration file, or the worker's folder; by default the present one.",
)
@click.option("--binding", default=None, help="The workflow's binding, where its name has changed.")
@json_option
def replay(files: tuple[Path, ...], config: Path, binding: str | None, as_json: bool) -> None:
    """Check that the script goes on with recorded instances: run each FILE again, which is the output of
    `edge workflows instances export NAME ID --raw`, without calling the body of any step. Fails where one differs."""
    # Imported here: it makes the modules of scripts known.
    from edge_runtime.testing.replay import ReplayDifference
    from edge_runtime.testing.replay import replay as replay_one

    rows: list[dict[str, str | int | float | None]] = []
    differences = []
    for file in files:
        try:
            report = replay_one(config, file, binding=binding)
        except ReplayDifference as difference:
            differences.append(f"{file}: {difference}")
        except EdgeError as error:
            raise UsageError(f"{file}: {error}") from None
        else:
            beyond = ", ".join(report.beyond) or "nothing"
            rows.append(
                {
                    "file": str(file),
                    "workflow": report.workflow,
                    "instance": report.instance,
                    "steps": report.steps,
                    "beyond": beyond,
                }
            )
    if rows or as_json:
        print_rows(_COLUMNS, rows, as_json=as_json)
    if differences:
        raise UsageError(f"{len(differences)} of {len(files)} do not fit:\n" + "\n".join(differences))
