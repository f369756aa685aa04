"""`edge workflows instances ...`: the arguments of wrangler's commands of these names."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import click

from bindings.instant import Instant
from bindings.workflows import control_cli, shown, timeline
from bindings.workflows import export as exported
from bindings.workflows.arguments import LATEST, chosen, options, run
from bindings.workflows.places import Place
from bindings.workflows.printing import print_json, print_labels, print_table
from edge_runtime.limits import INSTANCES_PER_PAGE
from edge_runtime.seams import SystemClock
from edge_runtime.store.api import Store
from edge_runtime.workflows.control import asking
from edge_runtime.workflows.control.describe import describe as describe_instance
from edge_runtime.workflows.stored import blocks, instances
from edge_runtime.workflows.stored.instances import InstanceRecord, Status
from edge_runtime.workflows.stored.streams import KeptStreams


@click.group("instances")
def instances_group() -> None:
    """Instances of a workflow. ID may be "latest"."""


for _command in control_cli.COMMANDS:
    instances_group.add_command(_command)


@instances_group.command("list")
@click.argument("name")
@click.option("--status", type=click.Choice([status.value for status in Status]), default=None)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option("--per-page", type=click.IntRange(1, 1000), default=INSTANCES_PER_PAGE, show_default=True)
@click.option("--reverse", is_flag=True, help="Oldest first.")
@click.option(
    "--created-after",
    "--date-start",
    type=Instant(),
    default=None,
    help="Created then or later: ISO 8601, UTC unless it says otherwise, or a time ago such as 24h.",
)
@click.option("--created-before", type=Instant(), default=None, help="Created earlier than that.")
@click.option("--date-end", type=Instant(), default=None, help="Created then or earlier.")
@options
def list_instances(
    name: str,
    status: str | None,
    page: int,
    per_page: int,
    reverse: bool,
    created_after: int | None,
    created_before: int | None,
    date_end: int | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Show the instances of NAME, newest first."""
    place = Place.of(**where)

    def within(record: InstanceRecord) -> bool:
        after = created_after is None or record.created_ms >= created_after
        before = created_before is None or record.created_ms < created_before
        return after and before and (date_end is None or record.created_ms <= date_end)

    async def read(store: Store) -> list[tuple[str, InstanceRecord]]:
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            wanted = None if status is None else Status(status)
            scanned = instances.scan(snapshot, workflow.worker, workflow.name, wanted, reverse=reverse)
            found = (row for row in scanned if within(row[1]))
            return list(islice(found, (page - 1) * per_page, page * per_page))

    rows = run(place, read, readonly=True)
    if as_json:
        print_json([shown.instance_json(id, record) for id, record in rows])
        return
    print_table(
        ("Instance ID", "Version", "Created", "Modified", "Status"),
        [
            (
                id,
                record.version[:12] or "-",
                shown.time_text(record.created_ms),
                shown.time_text(record.updated_ms),
                shown.status_word(record.status),
            )
            for id, record in rows
        ],
    )


@instances_group.command("describe")
@click.argument("name")
@click.argument("id", required=False, default=LATEST)
@click.option("--step-output/--no-step-output", default=True, help="Show what the steps returned.")
@click.option("--truncate-output-limit", type=click.IntRange(1), default=5000, show_default=True)
@options
def describe(name: str, id: str, step_output: bool, truncate_output_limit: int, as_json: bool, **where: Any) -> None:
    """Show an instance with its steps and their attempts; ID may be "latest"."""
    place = Place.of(**where)

    async def read(store: Store) -> Any:
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            address = instances.address_of(workflow.worker, workflow.name, chosen(snapshot, workflow, id))
            return describe_instance(snapshot, address, asking.find(snapshot, address))

    found = run(place, read, readonly=True)
    if as_json:
        print_json(shown.description_json(found))
        return
    print_labels(shown.labels(name, found, output_max=truncate_output_limit))
    if found.steps:
        click.echo()
        rows = shown.step_rows(found, with_output=step_output, output_max=truncate_output_limit)
        print_table(shown.STEP_COLUMNS, rows)
    attempts = shown.attempt_rows(found)
    if attempts:
        click.echo()
        print_table(shown.ATTEMPT_COLUMNS, attempts)
    lines = timeline.lines(found, SystemClock().now_ms())
    if lines:
        click.echo()
        click.echo("\n".join(lines))


@instances_group.command("export")
@click.argument("name")
@click.argument("id", required=False, default=LATEST)
@click.option(
    "--raw", is_flag=True, help="With the stored bytes of each entry and stream, those of sensitive steps included."
)
@options
def export(name: str, id: str, raw: bool, as_json: bool, **where: Any) -> None:
    """Print the journal of an instance as JSON lines."""
    place = Place.of(**where)

    async def read(store: Store) -> list[dict[str, Any]]:
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            address = instances.address_of(workflow.worker, workflow.name, chosen(snapshot, workflow, id))
            record = asking.find(snapshot, address)
            loaded = blocks.load(snapshot, address.worker, address.namespace, address.id, record.seq)
            streams = KeptStreams(snapshot, address)
            return exported.lines(address.namespace, address.id, loaded.entries, record, streams, raw=raw)

    for line in run(place, read, readonly=True):
        click.echo(json.dumps(line, ensure_ascii=False))
