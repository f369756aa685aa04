"""The `edge` command: a table of commands, each imported when it is asked for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

COMMANDS_GROUP = "edge_runtime.commands"

_OWN = {
    "dev": ("edge_runtime.cli.dev:dev", "Serve the worker in a folder, reloading it as its files change."),
    "run": ("edge_runtime.cli.run:run", "Serve deployed workers, routed by host and path."),
    "deploy": ("edge_runtime.cli.deploy:deploy", "Send a worker to a running `edge run`."),
    "workers": ("edge_runtime.cli.workers:workers", "Show the workers of a running server; fire cron triggers."),
    "usage": ("edge_runtime.cli.usage:usage", "Show events, CPU time and wall time by worker and handler."),
    "bench": ("edge_runtime.cli.bench:bench", "Measure what a worker's requests or steps cost; compare two."),
    "bill": ("edge_runtime.cli.bill:bill", "Show what the usage costs by a tariff, or by several side by side."),
    "replay": ("edge_runtime.cli.replay:replay", "Check that recorded workflow instances fit a changed script."),
    "init": ("edge_runtime.cli.init:init", "Write a new worker to start from."),
    "doctor": ("edge_runtime.cli.doctor:doctor", "Check this machine and, if given, a data directory."),
}


@dataclass(frozen=True, slots=True)
class CommandContext:
    """What commands of binding kinds get as `ctx.obj`."""

    poke: Callable[[Path, str], None]
    """`poke(data_dir, worker)`: tell a running server that timers or messages were written for a worker; nothing
    happens when none runs."""
    live_objects: Callable[[Path, str, str], frozenset[str]]
    """`live_objects(data_dir, worker, namespace)`: ids of the objects that a running server has in memory; none when
    none runs."""


def _poke(data_dir: Path, worker: str) -> None:
    from edge_runtime.supervisor.admin_client import poke_timers

    poke_timers(data_dir, worker)


def _live_objects(data_dir: Path, worker: str, namespace: str) -> frozenset[str]:
    from edge_runtime.supervisor.admin_client import live_objects

    return live_objects(data_dir, worker, namespace)


class EdgeGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*_OWN, *_of_kinds()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _OWN:
            module, _, attribute = _OWN[cmd_name][0].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        point = _of_kinds().get(cmd_name)
        return None if point is None else point.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Click's own version would import every command for its first line of help.
        rows = [(name, _OWN[name][1] if name in _OWN else f"Commands of {name}.") for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _of_kinds() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=COMMANDS_GROUP)}


@click.group(cls=EdgeGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-v", "--version", package_name="edge-runtime")
@click.option(
    "--cwd",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=None,
    help="Run as if started in this folder.",
)
@click.pass_context
def edge(ctx: click.Context, cwd: Path | None) -> None:
    """Run worker scripts with Durable Objects, Workflows and KV on this machine."""
    if cwd is not None:
        os.chdir(cwd)
    ctx.obj = CommandContext(_poke, _live_objects)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. Errors that a person can act on are one line on stderr and exit code 1; usage errors exit with 2."""
    from edge_runtime.errors import EdgeError

    try:
        return edge(arguments)
    except EdgeError as error:
        click.echo(f"edge: {error}", err=True)
        raise SystemExit(1) from None
