"""How the binding reaches the instances of one workflow: through the store, and by a poke where they live here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bindings.workflows.starts import NewInstancePlace, Starts
from edge_runtime.actors.api import ActorAddress, ActorHost
from edge_runtime.errors import Conflict
from edge_runtime.event import require_event
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock, Randomness
from edge_runtime.store.api import Batch, Store
from edge_runtime.store.transaction import tell_when_durable
from edge_runtime.workflows.control import asking
from edge_runtime.workflows.instance.actor import Poke
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.inbox import Command
from edge_runtime.workflows.stored.instances import InstanceRecord


class WorkflowAccess:
    def __init__(
        self,
        worker: str,
        workflow: str,
        *,
        store: Store,
        clock: Clock,
        random: Randomness,
        actors: ActorHost,
        version: str = "",
    ) -> None:
        self.worker = worker
        self.workflow = workflow
        self.store = store
        self.clock = clock
        self.random = random
        self.version = version
        self._actors = actors
        self._starts = Starts(actors, store, clock, worker, workflow)

    def address(self, id: str) -> ActorAddress:
        return instances.address_of(self.worker, self.workflow, id)

    def lives_here(self, address: ActorAddress) -> bool:
        return self._actors.owns(address)

    def record(self, id: str) -> InstanceRecord:
        """Raises WorkflowError "instance.not_found"."""
        with self.store.snapshot() as snapshot:
            return asking.find(snapshot, self.address(id))

    def commit(
        self,
        batch: Batch,
        woken: str,
        value: Callable[[], Any],
        conflict: Callable[[], Exception],
        starts: Sequence[NewInstancePlace] = (),
    ) -> Promise[Any]:
        """Resolves with `value()` once the batch is durable, the worker `woken` told of its wake-ups and the instances
        of `starts`, which live here, of their creation."""
        promise: Promise[Any] = Promise()
        event = require_event("a workflow binding")

        def tell() -> None:
            self._actors.timers_changed(woken)
            self._starts.begin(starts, event)

        def committed(commit: Promise[None]) -> None:
            if commit.error is None:
                tell_when_durable(tell)
                promise.resolve(value())
            else:
                promise.reject(conflict() if isinstance(commit.error, Conflict) else commit.error)

        self.store.commit(batch).add_done_callback(committed)
        return promise

    def command(self, id: str, command: Command) -> Promise[None]:
        """Leave a command for an instance. Resolves once it is durable and, where the instance lives in this isolate,
        the instance has taken it. Raises WorkflowError."""
        batch = Batch()
        address = self.address(id)
        with self.store.snapshot() as snapshot:
            asking.command(batch, snapshot, address, command, clock=self.clock, random=self.random)
            actor = instances.actor_of(address, asking.find(snapshot, address))
        promise: Promise[None] = Promise()
        if not batch:
            promise.resolve(None)
            return promise
        transactional = require_event("a workflow binding").transaction is not None

        def committed(commit: Promise[None]) -> None:
            if commit.error is not None:
                promise.reject(commit.error)
                return
            tell_when_durable(lambda: self._actors.timers_changed(actor.worker))
            if transactional or not self._actors.owns(actor):
                promise.resolve(None)
                return
            # The command is durable, so it will be taken, whatever becomes of this delivery.
            self._actors.deliver(actor, Poke()).add_done_callback(lambda _: promise.resolve(None))

        self.store.commit(batch).add_done_callback(committed)
        return promise

    def send_event(self, id: str, event_type: object, payload: object) -> Promise[None]:
        batch = Batch()
        encoded = payloads.encode(payload)
        address = self.address(id)
        with self.store.snapshot() as snapshot:
            asking.send_event(batch, snapshot, address, event_type, encoded, clock=self.clock, random=self.random)
            woken = instances.actor_of(address, asking.find(snapshot, address)).worker
        changed = WorkflowError("instance.conflict", "the instance has changed")
        return self.commit(batch, woken, lambda: None, lambda: changed)


def or_rejected(begin: Callable[[], Promise[Any]]) -> Promise[Any]:
    require_event("a workflow binding")
    try:
        return begin()
    except Exception as error:
        return Promise.rejected(error)
