"""`env.MY_WORKFLOW`: create instances, find them, delete them.

Source: workerd types/defines/workflows.d.ts; Python names as cloudflare/workers-py has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bindings.workflows.access import WorkflowAccess, or_rejected
from bindings.workflows.handle import WorkflowInstanceHandle, given_options
from bindings.workflows.starts import NewInstancePlace
from edge_runtime.config.pinned import pinned_name
from edge_runtime.limits import CREATE_BATCH_MAX, DELETE_BATCH_MAX
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch, Snapshot
from edge_runtime.workers.conversion import from_wire
from edge_runtime.workflows.control import asking, creation
from edge_runtime.workflows.control.creation import NewInstance
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.script.config import read_duration_ms
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored.inbox import Delete

_CREATE: Final = ("id", "params", "retention", "locationHint", "delay")
_NOT_FOUND: Final = 10400
_INTERNAL: Final = 10001


class WorkflowNamespace:
    """One workflow. Calls resolve once what they wrote is durable: an acknowledged instance survives any crash."""

    def __init__(
        self, access: WorkflowAccess, *, pins: bool = False, check: Callable[[], object] | None = None
    ) -> None:
        """`pins`: instances stay with the version of `access`. `check` raises UsageError if the workflow, of another
        worker, is not there."""
        self._access = access
        self._check = check
        self._pins = pins
        self._told = pinned_name(access.worker, access.version) if pins else access.worker

    def create(self, options: Mapping[str, Any] | None = None, /, **named: Any) -> Promise[WorkflowInstanceHandle]:
        """Create an instance and return its handle; it starts as soon as it is durable.

        Options: id (default: a UUID, version 7), params (default: {}), retention, locationHint (no effect), delay
        (ours: how long after now it starts). Rejects with WorkflowError "instance.already_exists" and
        "instance.invalid_id".
        """

        def begin() -> Promise[WorkflowInstanceHandle]:
            self._require()
            new = self._read(options, named)
            batch = Batch()
            with self._access.store.snapshot() as snapshot:
                started = self._add(batch, snapshot, new)
            return self._access.commit(
                batch,
                self._told,
                lambda: self._handle(new.id),
                lambda: creation.already_exists(new.id),
                [started] if started is not None else [],
            )

        return or_rejected(begin)

    def createBatch(self, options: Sequence[Mapping[str, Any]], /) -> Promise[list[WorkflowInstanceHandle]]:
        """Create up to 100 instances together, all or none; those whose id is taken are left out of the result."""

        def begin() -> Promise[list[WorkflowInstanceHandle]]:
            self._require()
            form: object = options
            if not isinstance(form, Sequence) or isinstance(form, str | bytes):
                raise TypeError(f"createBatch: found {type(options).__name__}; allowed: a list of options of create")
            if not options:
                raise WorkflowError("body", "WorkflowError: batchCreate should have at least 1 instance")
            if len(options) > CREATE_BATCH_MAX:
                raise WorkflowError(
                    "body", f"batchCreate takes at most {CREATE_BATCH_MAX} instances, found {len(options)}"
                )
            wanted = {new.id: new for new in (self._read(given, {}) for given in options)}
            batch, ids, starts = Batch(), [], []
            with self._access.store.snapshot() as snapshot:
                for new in wanted.values():
                    try:
                        started = self._add(batch, snapshot, new)
                    except WorkflowError as error:
                        if error.code != "instance.already_exists":
                            raise
                        continue
                    ids.append(new.id)
                    if started is not None:
                        starts.append(started)
            return self._access.commit(
                batch,
                self._told,
                lambda: [self._handle(id) for id in ids],
                lambda: WorkflowError(
                    "instance.already_exists", "one of the ids was taken meanwhile; nothing was created"
                ),
                starts,
            )

        return or_rejected(begin)

    def get(self, id: str, /) -> Promise[WorkflowInstanceHandle]:
        """The handle of an instance. Rejects with WorkflowError "instance.not_found"."""

        def begin() -> Promise[WorkflowInstanceHandle]:
            self._require()
            self._access.record(asking.check_address(id))
            return Promise.resolved(self._handle(id))

        return or_rejected(begin)

    def deleteBatch(self, ids: Sequence[str], /) -> Promise[Any]:
        """Stop up to 100 instances and remove all that is stored of them.

        Resolves with {"deleted": [{"id"}], "errors": [{"id", "code", "message"}]}, each in the order given.
        """

        def begin() -> Promise[Any]:
            given = ids.get("instances") if isinstance(ids, Mapping) else ids
            if not isinstance(given, Sequence) or isinstance(given, str | bytes):
                raise WorkflowError("body", "Provided argument is invalid")
            if len(given) > DELETE_BATCH_MAX:
                raise WorkflowError(
                    "body", f"batchDeleteInstances only supports {DELETE_BATCH_MAX} instances at a time"
                )
            if not given:
                raise WorkflowError("body", "batchDeleteInstances should have at least 1 instance")
            return self._delete_all([asking.check_address(id) for id in given])

        return or_rejected(begin)

    create_batch = createBatch
    delete_batch = deleteBatch

    def _delete_all(self, ids: list[str]) -> Promise[Any]:
        promise: Promise[Any] = Promise()
        ended: dict[str, Promise[None]] = {}
        for id in dict.fromkeys(ids):
            ended[id] = or_rejected(lambda id=id: self._access.command(id, Delete()))  # type: ignore[misc]
        left = len(ended)

        def settled(_: Promise[None]) -> None:
            nonlocal left
            left -= 1
            if not left:
                errors = [_refused(id, ended[id].error) for id in ids if ended[id].error is not None]
                deleted = [{"id": id} for id in ids if ended[id].error is None]
                promise.resolve(from_wire({"deleted": deleted, "errors": errors}))

        for deletion in list(ended.values()):
            deletion.add_done_callback(settled)
        return promise

    def _require(self) -> None:
        if self._check is not None:
            self._check()

    def _read(self, options: Mapping[str, Any] | None, named: Mapping[str, Any]) -> NewInstance:
        given = given_options("create", options, named)
        for name in given:
            if name not in _CREATE:
                raise TypeError(f"create: found the unknown option {name!r}; allowed: {', '.join(_CREATE)}")
        id, params, delay = given.get("id"), given.get("params"), given.get("delay")
        success_ms, error_ms = creation.read_retention(given.get("retention"))
        return NewInstance(
            self._access.random.ordered_id() if id is None else creation.check_id(id),
            payloads.encode({} if params is None else params),
            success_ms,
            error_ms,
            delay_ms=0 if delay is None else read_duration_ms("delay", delay),
        )

    def _add(self, batch: Batch, snapshot: Snapshot, new: NewInstance) -> NewInstancePlace | None:
        """Returns what is known of the instance if it is to be told once it is durable."""
        access = self._access
        address = access.address(new.id)
        told = not self._pins and access.lives_here(address)
        place = creation.create(
            batch,
            snapshot,
            access.worker,
            access.workflow,
            new,
            clock=access.clock,
            random=access.random,
            version=access.version,
            pinned=self._pins,
            told=told,
        )
        return (address, place) if told and not new.delay_ms else None

    def _handle(self, id: str) -> WorkflowInstanceHandle:
        return WorkflowInstanceHandle(self._access, id)

    def __repr__(self) -> str:
        return f"<Workflow {self._access.workflow}>"


def _refused(id: str, error: BaseException | None) -> dict[str, Any]:
    if isinstance(error, WorkflowError) and error.code == "instance.not_found":
        return {"id": id, "code": _NOT_FOUND, "message": "workflows.api.error.instance.not_found"}
    return {"id": id, "code": _INTERNAL, "message": "workflows.api.error.internal_server"}
