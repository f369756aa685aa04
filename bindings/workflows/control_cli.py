"""`edge workflows instances pause | resume | terminate | ...`: the arguments and messages of wrangler's commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from bindings.workflows.arguments import chosen, options, read_json, run, send_command
from bindings.workflows.places import Place
from bindings.workflows.printing import print_json
from edge_runtime.actors.api import ActorAddress
from edge_runtime.errors import UsageError
from edge_runtime.limits import DELETE_BATCH_MAX
from edge_runtime.seams import SystemClock, SystemRandomness
from edge_runtime.store.api import Batch, Snapshot, Store
from edge_runtime.workflows.control import asking
from edge_runtime.workflows.core.restart import TYPES, Origin, origin_of
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored import blocks, instances
from edge_runtime.workflows.stored.inbox import Command, Delete, Pause, Restart, Resume, Terminate
from edge_runtime.workflows.stored.instances import FINAL, Status


def _command(
    ctx: click.Context,
    where: dict[str, Any],
    as_json: bool,
    name: str,
    id: str,
    done: str,
    command: Callable[[Snapshot, ActorAddress], Command],
) -> None:
    found = send_command(ctx, Place.of(**where), name, id, command)
    if as_json:
        print_json({"id": found, "workflow": name, "command": done})
    else:
        click.echo(f'The instance "{found}" from {name} was {done} successfully')


@click.command("pause")
@click.argument("name")
@click.argument("id")
@options
@click.pass_context
def pause(ctx: click.Context, /, name: str, id: str, as_json: bool, **where: Any) -> None:
    """Let the running steps of an instance end, and begin no others."""
    _command(ctx, where, as_json, name, id, "paused", lambda *_: Pause())


@click.command("resume")
@click.argument("name")
@click.argument("id")
@options
@click.pass_context
def resume(ctx: click.Context, /, name: str, id: str, as_json: bool, **where: Any) -> None:
    """Go on with a paused instance."""
    _command(ctx, where, as_json, name, id, "resumed", lambda *_: Resume())


@click.command("terminate")
@click.argument("name")
@click.argument("id")
@click.option("--rollback", is_flag=True, help="Run registered rollback handlers before terminating.")
@options
@click.pass_context
def terminate(ctx: click.Context, /, name: str, id: str, rollback: bool, as_json: bool, **where: Any) -> None:
    """End an instance."""
    _command(ctx, where, as_json, name, id, "terminated", lambda *_: Terminate(rollback))


@click.command("restart")
@click.argument("name")
@click.argument("id")
@click.option("--from-step-name", default=None, help="Step to restart from; what began before it stays.")
@click.option("--from-step-count", type=int, default=None, help="Which of the steps of this name and type, from 1.")
@click.option("--from-step-type", type=click.Choice(TYPES), default=None, help="By default do.")
@click.option("--from", "step", default=None, help='The step as "describe" shows it, such as "charge-2".')
@options
@click.pass_context
def restart(
    ctx: click.Context,
    /,
    name: str,
    id: str,
    from_step_name: str | None,
    from_step_count: int | None,
    from_step_type: str | None,
    step: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Run an instance anew, from the top or from one of its steps."""
    if not from_step_name and (from_step_count is not None or from_step_type is not None):
        raise UsageError("--from-step-name is required when using --from-step-count or --from-step-type")
    if from_step_count is not None and from_step_count < 1:
        raise UsageError("--from-step-count must be a positive integer")
    if step is not None and from_step_name:
        raise UsageError("--from and --from-step-name name the step twice")

    def command(snapshot: Snapshot, address: ActorAddress) -> Command:
        if step is not None:
            return Restart(_shown_step(snapshot, address, step))
        if not from_step_name:
            return Restart()
        return Restart(Origin(from_step_name, from_step_count or 1, from_step_type or "do"))

    _command(ctx, where, as_json, name, id, "restarted", command)


def _shown_step(snapshot: Snapshot, address: ActorAddress, step: str) -> Origin:
    record = asking.find(snapshot, address)
    entries = blocks.load(snapshot, address.worker, address.namespace, address.id, record.seq).entries
    origin = origin_of(entries, step)
    if origin is None:
        raise WorkflowError("instance.cannot_restart", f'Step "{step}" not found in execution history')
    return origin


@click.command("send-event")
@click.argument("name")
@click.argument("id")
@click.option("--type", "event_type", required=True, help="Type of the event.")
@click.option("--payload", default="{}", show_default=True, help="JSON.")
@options
@click.pass_context
def send_event(
    ctx: click.Context, /, name: str, id: str, event_type: str, payload: str, as_json: bool, **where: Any
) -> None:
    """Send an event to an instance."""
    place = Place.of(**where)
    given = read_json(payload, "--payload")

    async def write(store: Store) -> tuple[str, str]:
        batch = Batch()
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            found = chosen(snapshot, workflow, id)
            asking.send_event(
                batch,
                snapshot,
                instances.address_of(workflow.worker, workflow.name, found),
                event_type,
                payloads.encode(given),
                clock=SystemClock(),
                random=SystemRandomness(),
            )
        await store.commit(batch)
        return workflow.worker, found

    worker, found = run(place, write, readonly=False)
    ctx.obj.poke(place.data_dir, worker)
    if as_json:
        print_json({"id": found, "type": event_type})
        return
    with_payload = f' and payload "{payload}"' if isinstance(given, dict | list | str) and given else ""
    click.echo(f'The event with type "{event_type}"{with_payload} was sent to the instance "{found}" from {name}')


@click.command("delete")
@click.argument("name")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--filename", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="JSON file: an array of ids."
)
@options
@click.pass_context
def delete(
    ctx: click.Context, /, name: str, ids: tuple[str, ...], filename: Path | None, as_json: bool, **where: Any
) -> None:
    """Stop instances and remove all that is stored of them."""
    place = Place.of(**where)
    wanted = [*ids, *(() if filename is None else _ids_in(filename))]
    if not wanted:
        raise UsageError("Provide at least one workflow instance ID")
    if len(wanted) > DELETE_BATCH_MAX:
        raise UsageError(f"You can delete at most {DELETE_BATCH_MAX} workflow instances at a time")
    clock, random = SystemClock(), SystemRandomness()

    async def write(store: Store) -> tuple[str, list[str], list[tuple[str, str]]]:
        batch, deleted, errors = Batch(), [], []
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            for id in [chosen(snapshot, workflow, id) for id in wanted]:
                address = instances.address_of(workflow.worker, workflow.name, id)
                try:
                    asking.command(batch, snapshot, address, Delete(), clock=clock, random=random)
                    deleted.append(id)
                except WorkflowError as error:
                    errors.append((id, error.message))
        await store.commit(batch)
        return workflow.worker, deleted, errors

    worker, deleted, errors = run(place, write, readonly=False)
    ctx.obj.poke(place.data_dir, worker)
    if as_json:
        failed = [{"id": id, "message": message} for id, message in errors]
        print_json({"deleted": [{"id": id} for id in deleted], "errors": failed})
    elif deleted:
        shown_ids = ", ".join(f'"{id}"' for id in deleted)
        click.echo(f'Deleted workflow instances from "{name}": {shown_ids}')
    if errors:
        lines = "\n".join(f"  - {id}: {message}" for id, message in errors)
        raise UsageError(f"Failed to delete {len(errors)} workflow instance(s):\n{lines}")


def _ids_in(filename: Path) -> list[str]:
    parsed = read_json(filename.read_text(), "--filename")
    if not isinstance(parsed, list) or not all(isinstance(id, str) for id in parsed):
        raise UsageError(f'Unexpected JSON input from "{filename}". Expected an array of strings.')
    return parsed


@click.command("terminate-all")
@click.argument("name")
@click.option(
    "--status",
    type=click.Choice([status.value for status in Status if status not in FINAL]),
    default=None,
    help="Only those of this status.",
)
@options
@click.pass_context
def terminate_all(ctx: click.Context, /, name: str, status: str | None, as_json: bool, **where: Any) -> None:
    """End all instances of NAME that are not finished."""
    place = Place.of(**where)
    clock, random = SystemClock(), SystemRandomness()

    async def write(store: Store) -> tuple[str, int]:
        batch, count = Batch(), 0
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            for wanted in instances.UNFINISHED if status is None else (Status(status),):
                for id in instances.ids(snapshot, workflow.worker, workflow.name, wanted):
                    address = instances.address_of(workflow.worker, workflow.name, id)
                    asking.command(batch, snapshot, address, Terminate(), clock=clock, random=random)
                    count += 1
        await store.commit(batch)
        return workflow.worker, count

    worker, count = run(place, write, readonly=False)
    ctx.obj.poke(place.data_dir, worker)
    if as_json:
        print_json({"workflow": name, "instances": count})
    else:
        click.echo(f"{count} instances from {name} were terminated successfully")


COMMANDS: Final = (pause, resume, terminate, restart, send_event, delete, terminate_all)
