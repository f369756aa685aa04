"""`edge workflows ...`: the arguments of wrangler's commands of these names."""

from __future__ import annotations

from typing import Any

import click

from bindings.workflows.arguments import options, read_json, run
from bindings.workflows.instances_cli import instances_group
from bindings.workflows.places import Place, Workflow, known_workflows
from bindings.workflows.printing import print_json, print_labels, print_table
from edge_runtime.errors import Conflict
from edge_runtime.seams import SystemClock, SystemRandomness
from edge_runtime.store.api import Batch, Snapshot, Store
from edge_runtime.workflows.control import asking, creation
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.script.config import read_duration_ms
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.inbox import Delete
from edge_runtime.workflows.stored.instances import Status

_DELETED_TOGETHER = 1000


@click.group("workflows")
def workflows() -> None:
    """Start workflows and look at their instances."""


workflows.add_command(instances_group)


@workflows.command("list")
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option("--per-page", type=click.IntRange(1), default=None, help="By default all are shown.")
@options
def list_workflows(page: int, per_page: int | None, as_json: bool, **where: Any) -> None:
    """Show the workflows of the worker in this folder, and those with instances in the data directory."""
    place = Place.of(**where)

    async def read(store: Store) -> list[dict[str, Any]]:
        with store.snapshot() as snapshot:
            return [_counted(snapshot, workflow) for workflow in known_workflows(place, snapshot)]

    if (place.data_dir / "store").is_dir():
        rows = run(place, read, readonly=True)
    else:
        rows = [_row(workflow, {}) for workflow in place.configured]
    shown_max = max(1, len(rows)) if per_page is None else per_page
    rows = rows[(page - 1) * shown_max : page * shown_max]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("Name", "Worker", "Class", "Instances"),
            [(row["name"], row["script_name"], row["class_name"] or "-", _counts(row["instances"])) for row in rows],
        )


@workflows.command("describe")
@click.argument("name")
@options
def describe_workflow(name: str, as_json: bool, **where: Any) -> None:
    """Show a workflow and how many instances it has in each status."""
    place = Place.of(**where)

    async def read(store: Store) -> dict[str, Any]:
        with store.snapshot() as snapshot:
            return _counted(snapshot, place.find(name, snapshot))

    row = run(place, read, readonly=True)
    if as_json:
        print_json(row)
    else:
        labels = [("Name", row["name"]), ("Script Name", row["script_name"]), ("Class Name", row["class_name"] or "-")]
        print_labels([*labels, ("Instances", _counts(row["instances"]))])


@workflows.command("trigger")
@click.argument("name")
@click.argument("params", required=False)
@click.option("--id", "id", default=None, help="Id of the instance; by default a random one.")
@click.option("--delay", default=None, help='How long after now it starts, such as "5 minutes".')
@options
@click.pass_context
def trigger(
    ctx: click.Context,
    /,
    name: str,
    params: str | None,
    id: str | None,
    delay: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Create an instance of NAME; PARAMS is JSON."""
    place = Place.of(**where)
    given = read_json(params, "PARAMS") if params else {}
    random = SystemRandomness()
    chosen = random.uuid() if id is None else id

    async def write(store: Store) -> str:
        delay_ms = 0 if delay is None else read_duration_ms("--delay", int(delay) if delay.isdigit() else delay)
        encoded = payloads.encode(given)
        new = creation.NewInstance(creation.check_id(chosen), encoded, trigger="api", delay_ms=delay_ms)
        batch = Batch()
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            creation.create(batch, snapshot, workflow.worker, workflow.name, new, clock=SystemClock(), random=random)
        try:
            await store.commit(batch)
        except Conflict:
            raise creation.already_exists(chosen) from None
        return workflow.worker

    worker = run(place, write, readonly=False)
    ctx.obj.poke(place.data_dir, worker)
    if as_json:
        print_json({"id": chosen, "status": Status.QUEUED.value})
    else:
        click.echo(f'Workflow instance "{chosen}" has been queued successfully')


@workflows.command("delete")
@click.argument("name")
@options
@click.pass_context
def delete_workflow(ctx: click.Context, /, name: str, as_json: bool, **where: Any) -> None:
    """Delete all instances of NAME, those that run included."""
    place = Place.of(**where)

    async def write(store: Store) -> tuple[str, int]:
        clock, random = SystemClock(), SystemRandomness()
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            ids = list(instances.ids(snapshot, workflow.worker, workflow.name))
        for start in range(0, len(ids), _DELETED_TOGETHER):
            batch = Batch()
            with store.snapshot() as snapshot:
                for id in ids[start : start + _DELETED_TOGETHER]:
                    address = instances.address_of(workflow.worker, workflow.name, id)
                    if instances.read(snapshot, address) is not None:
                        asking.command(batch, snapshot, address, Delete(), clock=clock, random=random)
            await store.commit(batch)
        return workflow.worker, len(ids)

    worker, count = run(place, write, readonly=False)
    ctx.obj.poke(place.data_dir, worker)
    if as_json:
        print_json({"name": name, "instances": count})
    else:
        click.echo(f'Workflow "{name}" instances removed successfully: {count}')


def _counted(snapshot: Snapshot, workflow: Workflow) -> dict[str, Any]:
    counts = {
        status.value: count
        for status in Status
        if (count := sum(1 for _ in instances.ids(snapshot, workflow.worker, workflow.name, status)))
    }
    return _row(workflow, counts)


def _row(workflow: Workflow, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "name": workflow.name,
        "script_name": workflow.worker,
        "class_name": workflow.class_name,
        "instances": counts,
    }


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "none"
