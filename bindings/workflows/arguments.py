"""What the commands share: where the data is, which instance is meant, and work on the store.

The store is opened directly, whether a server runs on it or not; a running one is told afterwards, so that it acts
at once.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import trio

from bindings.command_options import config_option, data_option, env_option, json_option, local_option, with_options
from bindings.workflows.places import Place, Workflow
from edge_runtime.actors.api import ActorAddress
from edge_runtime.errors import UsageError
from edge_runtime.seams import SystemClock, SystemRandomness
from edge_runtime.store.api import Batch, Snapshot, Store
from edge_runtime.store.lmdb_store import open_store
from edge_runtime.workers.js_object import JsException
from edge_runtime.workflows.control import asking
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.inbox import Command

T = TypeVar("T")
LATEST = "latest"


options = with_options(
    data_option,
    config_option,
    env_option,
    click.option("--worker", default=None, help="The worker, where several have a workflow of this name."),
    json_option,
    local_option,
)


def run(place: Place, work: Callable[[Store], Awaitable[T]], *, readonly: bool) -> T:
    if readonly and not (place.data_dir / "store").is_dir():
        raise UsageError(f"no data directory at {place.data_dir}; name one with --data")

    async def with_store() -> T:
        async with open_store(place.data_dir / "store", readonly=readonly) as store:
            return await work(store)

    try:
        return trio.run(with_store)
    except JsException as error:
        raise UsageError(error.message) from None


def chosen(snapshot: Snapshot, workflow: Workflow, id: str) -> str:
    """The id, or that of the newest instance for "latest"."""
    if id != LATEST:
        return id
    newest = next(instances.ids(snapshot, workflow.worker, workflow.name), None)
    if newest is None:
        raise UsageError(f"workflow {workflow.name} has no instances")
    return newest


def send_command(
    ctx: click.Context,
    place: Place,
    name: str,
    id: str,
    command: Callable[[Snapshot, ActorAddress], Command],
) -> str:
    """Leave a command for an instance and tell the server; returns the instance's id."""

    async def write(store: Store) -> tuple[str, str]:
        batch = Batch()
        with store.snapshot() as snapshot:
            workflow = place.find(name, snapshot)
            address = instances.address_of(workflow.worker, workflow.name, chosen(snapshot, workflow, id))
            wanted = command(snapshot, address)
            asking.command(batch, snapshot, address, wanted, clock=SystemClock(), random=SystemRandomness())
        await store.commit(batch)
        return workflow.worker, address.id

    worker, found = run(place, write, readonly=False)
    ctx.obj.poke(place.data_dir, worker)
    return found


def read_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=where) from None
