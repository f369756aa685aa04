"""`edge workflows ...`: the arguments of wrangler's commands of these names.

The store is opened directly, whether a server runs on it or not; a running one is told afterwards, so that it acts
at once.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from bindings.workflows import shown
from bindings.workflows.places import Place, Workflow, known_workflows
from bindings.workflows.printing import print_json, print_labels, print_table
from edge_runtime.errors import Conflict, UsageError
from edge_runtime.limits import INSTANCES_PER_PAGE
from edge_runtime.seams import SystemClock, SystemRandomness
from edge_runtime.store.api import Batch, Snapshot, Store
from edge_runtime.store.lmdb_store import open_store
from edge_runtime.workers.js_object import JsException
from edge_runtime.workflows import control, instances, payloads
from edge_runtime.workflows.describe import describe as describe_instance
from edge_runtime.workflows.instances import InstanceRecord, Status

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])
_LATEST = "latest"


def _options(command: Command) -> Command:
    for option in reversed(
        (
            click.option(
                "--data",
                "--persist-to",
                "data_dir",
                type=click.Path(path_type=Path, file_okay=False),
                default=None,
                help="Data directory; by default .edge in the worker's folder.",
            ),
            click.option(
                "-c",
                "--config",
                type=click.Path(path_type=Path, exists=True),
                default=None,
                help="Configuration file, or the worker's folder.",
            ),
            click.option("-e", "--env", "environment", default=None, help="Section env.NAME of the configuration."),
            click.option("--worker", default=None, help="The worker, where several have a workflow of this name."),
            click.option("--json", "as_json", is_flag=True, help="Print JSON."),
            click.option("--local", is_flag=True, expose_value=False, hidden=True, help="Always so here."),
        )
    ):
        command = option(command)
    return command


@click.group("workflows")
def workflows() -> None:
    """Start workflows and look at their instances."""


@workflows.group("instances")
def instances_group() -> None:
    """Instances of a workflow."""


@workflows.command("list")
@_options
def list_workflows(as_json: bool, **where: Any) -> None:
    """Show the workflows of the worker in this folder, and those with instances in the data directory."""
    place = Place.of(**where)

    async def read(store: Store) -> list[dict[str, Any]]:
        with store.snapshot() as snapshot:
            return [_counted(snapshot, workflow) for workflow in known_workflows(place, snapshot)]

    if (place.data_dir / "store").is_dir():
        rows = _run(place, read, readonly=True)
    else:
        rows = [_row(workflow, {}) for workflow in place.configured]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("Name", "Worker", "Class", "Instances"),
            [(row["name"], row["script_name"], row["class_name"] or "-", _counts(row["instances"])) for row in rows],
        )


@workflows.command("describe")
@click.argument("name")
@_options
def describe_workflow(name: str, as_json: bool, **where: Any) -> None:
    """Show a workflow and how many instances it has in each status."""
    place = Place.of(**where)

    async def read(store: Store) -> dict[str, Any]:
        with store.snapshot() as snapshot:
            return _counted(snapshot, place.find(name, snapshot))

    row = _run(place, read, readonly=True)
    if as_json:
        print_json(row)
    else:
        labels = [("Name", row["name"]), ("Script Name", row["script_name"]), ("Class Name", row["class_name"] or "-")]
        print_labels([*labels, ("Instances", _counts(row["instances"]))])


@workflows.command("trigger")
@click.argument("name")
@click.argument("params", required=False)
@click.option("--id", "id", default=None, help="Id of the instance; by default a random one.")
@_options
@click.pass_context
def trigger(ctx: click.Context, /, name: str, params: str | None, id: str | None, as_json: bool, **where: Any) -> None:
    """Create an instance of NAME; PARAMS is JSON."""
    place = Place.of(**where)
    given = {} if params is None else _read_json(params, "PARAMS")
    random = SystemRandomness()
    chosen = random.uuid() if id is None else id

    async def write(store: Store) -> str:
        new = control.NewInstance(control.check_id(chosen), payloads.encode(given), trigger="api")
        batch = Batch()
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            control.create(batch, snapshot, workflow.worker, workflow.name, new, clock=SystemClock(), random=random)
        try:
            await store.commit(batch)
        except Conflict:
            raise control.already_exists(chosen) from None
        return workflow.worker

    worker = _run(place, write, readonly=False)
    ctx.obj.poke(place.data_dir, worker)
    if as_json:
        print_json({"id": chosen, "status": Status.QUEUED.value})
    else:
        click.echo(f'Workflow instance "{chosen}" has been queued successfully')


@instances_group.command("list")
@click.argument("name")
@click.option("--status", type=click.Choice([status.value for status in Status]), default=None)
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option("--per-page", type=click.IntRange(1, 1000), default=INSTANCES_PER_PAGE, show_default=True)
@click.option("--reverse", is_flag=True, help="Oldest first.")
@_options
def list_instances(
    name: str, status: str | None, page: int, per_page: int, reverse: bool, as_json: bool, **where: Any
) -> None:
    """Show the instances of NAME, newest first."""
    place = Place.of(**where)

    async def read(store: Store) -> list[tuple[str, InstanceRecord]]:
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            wanted = None if status is None else Status(status)
            found = instances.scan(snapshot, workflow.worker, workflow.name, wanted, reverse=reverse)
            return list(islice(found, (page - 1) * per_page, page * per_page))

    rows = _run(place, read, readonly=True)
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
@click.argument("id", required=False, default=_LATEST)
@click.option("--step-output/--no-step-output", default=True, help="Show what the steps returned.")
@click.option("--truncate-output-limit", type=click.IntRange(1), default=5000, show_default=True)
@_options
def describe(name: str, id: str, step_output: bool, truncate_output_limit: int, as_json: bool, **where: Any) -> None:
    """Show an instance with its steps and their attempts; ID may be "latest"."""
    place = Place.of(**where)

    async def read(store: Store) -> Any:
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            address = instances.address_of(workflow.worker, workflow.name, _chosen(snapshot, workflow, id))
            return describe_instance(snapshot, address, control.find(snapshot, address))

    found = _run(place, read, readonly=True)
    if as_json:
        print_json(shown.description_json(found))
        return
    print_labels(shown.labels(name, found))
    if found.steps:
        click.echo()
        rows = shown.step_rows(found, with_output=step_output, output_max=truncate_output_limit)
        print_table(shown.STEP_COLUMNS, rows)
    attempts = shown.attempt_rows(found)
    if attempts:
        click.echo()
        print_table(shown.ATTEMPT_COLUMNS, attempts)


@instances_group.command("send-event")
@click.argument("name")
@click.argument("id")
@click.option("--type", "event_type", required=True, help="Type of the event.")
@click.option("--payload", default=None, help="JSON.")
@_options
@click.pass_context
def send_event(
    ctx: click.Context, /, name: str, id: str, event_type: str, payload: str | None, as_json: bool, **where: Any
) -> None:
    """Send an event to an instance; ID may be "latest"."""
    place = Place.of(**where)
    given = None if payload is None else _read_json(payload, "--payload")

    async def write(store: Store) -> tuple[str, str]:
        batch = Batch()
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            chosen = _chosen(snapshot, workflow, id)
            control.send_event(
                batch,
                snapshot,
                instances.address_of(workflow.worker, workflow.name, chosen),
                event_type,
                payloads.encode(given),
                clock=SystemClock(),
                random=SystemRandomness(),
            )
        await store.commit(batch)
        return workflow.worker, chosen

    worker, chosen = _run(place, write, readonly=False)
    ctx.obj.poke(place.data_dir, worker)
    if as_json:
        print_json({"id": chosen, "type": event_type})
    else:
        click.echo(f'The event with type "{event_type}" was sent to the instance "{chosen}" from {name}')


def _run(place: Place, work: Callable[[Store], Awaitable[T]], *, readonly: bool) -> T:
    if readonly and not (place.data_dir / "store").is_dir():
        raise UsageError(f"no data directory at {place.data_dir}; name one with --data")

    async def with_store() -> T:
        async with open_store(place.data_dir / "store", readonly=readonly) as store:
            return await work(store)

    try:
        return trio.run(with_store)
    except JsException as error:
        raise UsageError(error.message) from None


def _chosen(snapshot: Snapshot, workflow: Workflow, id: str) -> str:
    if id != _LATEST:
        return id
    newest = next(instances.scan(snapshot, workflow.worker, workflow.name), None)
    if newest is None:
        raise UsageError(f"workflow {workflow.name} has no instances")
    return newest[0]


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


def _read_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=where) from None
