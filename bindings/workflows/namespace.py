"""`env.MY_WORKFLOW`: create instances, find them; and the handle of one instance.

Source: workerd types/defines/workflows.d.ts; Python names as cloudflare/workers-py has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from edge_runtime.actors.api import ActorHost
from edge_runtime.errors import Conflict
from edge_runtime.event import require_event
from edge_runtime.limits import CREATE_BATCH_MAX
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock, Randomness
from edge_runtime.store.api import Batch, Snapshot, Store
from edge_runtime.workers.conversion import from_wire
from edge_runtime.workflows import control, instances, payloads
from edge_runtime.workflows.control import NewInstance
from edge_runtime.workflows.errors import WorkflowError
from edge_runtime.workflows.instances import InstanceRecord

_CREATE: Final = ("id", "params", "retention", "locationHint")


class WorkflowNamespace:
    """One workflow. Calls resolve once what they wrote is durable: an acknowledged instance survives any crash."""

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
        check: Callable[[], object] | None = None,
    ) -> None:
        """`check` raises UsageError if the workflow, of another worker, is not there."""
        self._check = check
        self._worker = worker
        self._workflow = workflow
        self._store = store
        self._clock = clock
        self._random = random
        self._actors = actors
        self._version = version

    def create(self, options: Mapping[str, Any] | None = None, /, **named: Any) -> Promise[WorkflowInstanceHandle]:
        """Create an instance and return its handle; it starts as soon as it is durable.

        Options: id (default: a random UUID), params (default: {}), retention, locationHint (no effect). Rejects with
        WorkflowError "instance.already_exists" and "instance.invalid_id".
        """

        def begin() -> Promise[WorkflowInstanceHandle]:
            self._require()
            new = self._read(options, named)
            batch = Batch()
            with self._store.snapshot() as snapshot:
                self._add(batch, snapshot, new)
            return self._commit(batch, lambda: self._handle(new.id), lambda: control.already_exists(new.id))

        return _or_rejected(begin)

    def createBatch(self, options: Sequence[Mapping[str, Any]], /) -> Promise[list[WorkflowInstanceHandle]]:
        """Create up to 100 instances together, all or none; those whose id is taken are left out of the result."""

        def begin() -> Promise[list[WorkflowInstanceHandle]]:
            self._require()
            if not options:
                raise WorkflowError("body", "WorkflowError: batchCreate should have at least 1 instance")
            if len(options) > CREATE_BATCH_MAX:
                raise WorkflowError(
                    "body", f"batchCreate takes at most {CREATE_BATCH_MAX} instances, found {len(options)}"
                )
            wanted = {new.id: new for new in (self._read(given, {}) for given in options)}
            batch, ids = Batch(), []
            with self._store.snapshot() as snapshot:
                for new in wanted.values():
                    if instances.read(snapshot, self._address(new.id)) is None:
                        self._add(batch, snapshot, new)
                        ids.append(new.id)
            return self._commit(
                batch,
                lambda: [self._handle(id) for id in ids],
                lambda: WorkflowError(
                    "instance.already_exists", "one of the ids was taken meanwhile; nothing was created"
                ),
            )

        return _or_rejected(begin)

    def get(self, id: str, /) -> Promise[WorkflowInstanceHandle]:
        """The handle of an instance. Rejects with WorkflowError "instance.not_found"."""

        def begin() -> Promise[WorkflowInstanceHandle]:
            self._require()
            with self._store.snapshot() as snapshot:
                control.find(snapshot, self._address(control.check_id(id)))
            return Promise.resolved(self._handle(id))

        return _or_rejected(begin)

    create_batch = createBatch

    def _require(self) -> None:
        if self._check is not None:
            self._check()

    def _read(self, options: Mapping[str, Any] | None, named: Mapping[str, Any]) -> NewInstance:
        given = {**(options or {}), **named}
        for name in given:
            if name not in _CREATE:
                raise TypeError(f"create: found the unknown option {name!r}; allowed: {', '.join(_CREATE)}")
        id = given.get("id")
        params = given.get("params")
        success_ms, error_ms = control.read_retention(given.get("retention"))
        return NewInstance(
            self._random.uuid() if id is None else control.check_id(id),
            payloads.encode({} if params is None else params),
            success_ms,
            error_ms,
        )

    def _add(self, batch: Batch, snapshot: Snapshot, new: NewInstance) -> None:
        control.create(
            batch,
            snapshot,
            self._worker,
            self._workflow,
            new,
            clock=self._clock,
            random=self._random,
            version=self._version,
        )

    def _commit(self, batch: Batch, value: Callable[[], Any], conflict: Callable[[], Exception]) -> Promise[Any]:
        promise: Promise[Any] = Promise()

        def committed(commit: Promise[None]) -> None:
            if commit.error is None:
                self._actors.timers_changed(self._worker)
                promise.resolve(value())
            else:
                promise.reject(conflict() if isinstance(commit.error, Conflict) else commit.error)

        self._store.commit(batch).add_done_callback(committed)
        return promise

    def _address(self, id: str) -> Any:
        return instances.address_of(self._worker, self._workflow, id)

    def _handle(self, id: str) -> WorkflowInstanceHandle:
        return WorkflowInstanceHandle(self, id)

    def _send_event(self, id: str, event_type: object, payload: object) -> Promise[None]:
        batch = Batch()
        encoded = payloads.encode(payload)
        with self._store.snapshot() as snapshot:
            control.send_event(
                batch, snapshot, self._address(id), event_type, encoded, clock=self._clock, random=self._random
            )
        return self._commit(batch, lambda: None, lambda: WorkflowError("instance.conflict", "the instance has changed"))

    def _record(self, id: str) -> InstanceRecord:
        with self._store.snapshot() as snapshot:
            return control.find(snapshot, self._address(id))

    def __repr__(self) -> str:
        return f"<Workflow {self._workflow}>"


class WorkflowInstanceHandle:
    """One instance, as `create` and `get` return it."""

    def __init__(self, namespace: WorkflowNamespace, id: str) -> None:
        self._namespace = namespace
        self.id = id

    def status(self) -> Promise[Any]:
        """{"status", "output", "error"}: output is what `run` returned or None, error {"name", "message"} or None."""

        def begin() -> Promise[Any]:
            record = self._namespace._record(self.id)
            error = None if record.error is None else {"name": record.error.name, "message": record.error.message}
            output = None if record.output is None else payloads.decode_plain(record.output)
            return Promise.resolved(from_wire({"status": record.status.value, "output": output, "error": error}))

        return _or_rejected(begin)

    def sendEvent(self, event: Mapping[str, Any] | None = None, /, **named: Any) -> Promise[None]:
        """Send {"type": ..., "payload": ...}; resolves once durable. It waits for the next wait of that type.

        Rejects with WorkflowError for an unknown or finished instance.
        """

        def begin() -> Promise[None]:
            given = {**(event or {}), **named}
            unknown = set(given) - {"type", "payload"}
            if unknown:
                raise TypeError(f"sendEvent: found the unknown option {min(unknown)!r}; allowed: type, payload")
            return self._namespace._send_event(self.id, given.get("type"), given.get("payload"))

        return _or_rejected(begin)

    send_event = sendEvent

    def __repr__(self) -> str:
        return f"<WorkflowInstance {self.id}>"


def _or_rejected(begin: Callable[[], Promise[Any]]) -> Promise[Any]:
    require_event("a workflow binding")
    try:
        return begin()
    except Exception as error:
        return Promise.rejected(error)
