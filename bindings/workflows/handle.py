"""The handle of one instance, as `create` and `get` of a workflow binding return it.

Source: workerd types/defines/workflows.d.ts; cloudflare/workers-sdk, packages/workflows-shared, binding.ts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bindings.workflows.access import WorkflowAccess, or_rejected
from edge_runtime.promise import Promise
from edge_runtime.workers.conversion import from_wire
from edge_runtime.workflows.control import asking
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.stored.inbox import Command, Delete, Pause, Restart, Resume, Terminate


class WorkflowInstanceHandle:
    """Commands resolve once they are durable; an instance of this worker has taken them by then."""

    def __init__(self, access: WorkflowAccess, id: str) -> None:
        self._access = access
        self.id = id

    def status(self) -> Promise[Any]:
        """{"status", "output", "error"}: output is what `run` returned or None, error {"name", "message"} or None.

        While the status is "waiting" there is `waitingFor` (ours) too, soonest first, at most ten:
        [{"name", "type", "until", "eventType"}], `until` in ISO 8601.
        """

        def begin() -> Promise[Any]:
            record = self._access.record(self.id)
            error = None if record.error is None else {"name": record.error.name, "message": record.error.message}
            output = None if record.output is None else payloads.decode_plain(record.output)
            shown = {"status": record.status.value, "output": output, "error": error}
            if record.awaited:
                shown["waitingFor"] = [
                    {
                        "name": awaited.step,
                        "type": awaited.kind,
                        "until": payloads.instant(awaited.due_ms).isoformat(timespec="milliseconds"),
                        "eventType": awaited.event_type or None,
                    }
                    for awaited in record.awaited
                ]
            return Promise.resolved(from_wire(shown))

        return or_rejected(begin)

    def pause(self) -> Promise[None]:
        """Begin no further step, let those that run end, then stand still until `resume`.

        Sleeps, retry delays and timeouts stand still from now on. No effect on a finished or paused instance.
        """
        return self._command(Pause())

    def resume(self) -> Promise[None]:
        """End the pause; what waited for a time goes on waiting for the rest of it. No effect on one not paused."""
        return self._command(Resume())

    def terminate(self, options: Mapping[str, Any] | None = None, /, **named: Any) -> Promise[None]:
        """End the instance; running steps are cancelled. With {"rollback": True} what it did is undone first.

        Rejects with WorkflowError "instance.cannot_terminate" for a finished instance.
        """

        def begin() -> Promise[None]:
            given = _options("terminate", options, named, ("rollback",))
            return self._access.command(self.id, Terminate(bool(given.get("rollback"))))

        return or_rejected(begin)

    def restart(self, options: Mapping[str, Any] | None = None, /, **named: Any) -> Promise[None]:
        """Run anew with the same params: from the top, or with {"from": {"name", "count", "type"}} keeping the results
        of the steps that began before that one (`from_=` as keyword). Events sent before are dropped.

        Rejects with WorkflowError "instance.cannot_restart" for a step that is not in the instance's history.
        """

        def begin() -> Promise[None]:
            given = _options("restart", options, named, ("from", "from_"))
            origin = given.get("from", given.get("from_"))
            return self._access.command(self.id, Restart(None if origin is None else asking.read_origin(origin)))

        return or_rejected(begin)

    def sendEvent(self, event: Mapping[str, Any] | None = None, /, **named: Any) -> Promise[None]:
        """Send {"type": ..., "payload": ...}; resolves once durable. It waits for the next wait of that type.

        Rejects with WorkflowError for an unknown or finished instance.
        """

        def begin() -> Promise[None]:
            given = _options("sendEvent", event, named, ("type", "payload"))
            return self._access.send_event(self.id, given.get("type"), given.get("payload"))

        return or_rejected(begin)

    def delete(self) -> Promise[None]:
        """Stop the instance and remove everything that is stored of it."""
        return self._command(Delete())

    send_event = sendEvent

    def _command(self, command: Command) -> Promise[None]:
        return or_rejected(lambda: self._access.command(self.id, command))

    def __repr__(self) -> str:
        return f"<WorkflowInstance {self.id}>"


def given_options(call: str, options: object, named: Mapping[str, Any]) -> dict[str, Any]:
    """What was given to a call as one dict, by name, or both. Raises TypeError."""
    if options is None:
        return dict(named)
    if not isinstance(options, Mapping):
        raise TypeError(f"{call}: found {type(options).__name__}; allowed: a dict of options, or options by name")
    return {**options, **named}


def _options(
    call: str, options: Mapping[str, Any] | None, named: Mapping[str, Any], known: tuple[str, ...]
) -> dict[str, Any]:
    given = given_options(call, options, named)
    unknown = set(given) - set(known)
    if unknown:
        allowed = ", ".join(name for name in known if not name.endswith("_"))
        raise TypeError(f"{call}: found the unknown option {min(unknown)!r}; allowed: {allowed}")
    return given
