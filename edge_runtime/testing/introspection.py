"""Looking into workflows and mocking their steps, by the names of Cloudflare's `cloudflare:test`.

Unlike there, a mocked result that is false is a result too. Source: cloudflare/workers-sdk, workflows-shared,
introspection.ts and modifier.ts.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import trio

from edge_runtime.testing.mocks import MockedStream, Rules, Step, read_step
from edge_runtime.testing.worker import WorkerUnderTest
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workflows.control import asking
from edge_runtime.workflows.control.describe import Description, describe
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.script.errors import WorkflowError
from edge_runtime.workflows.stored import instances
from edge_runtime.workflows.stored.streams import open_kept

_LOOK_S = 0.01
_LOOK_MAX_S = 600.0


def _pauses_s() -> Iterator[float]:
    """Between looks: short at first, and longer where an instance sleeps for days."""
    pause_s = _LOOK_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _LOOK_MAX_S)


class Modifier:
    """What `modify` gives to its function. Steps are {"name": ..., "index": 1} or a name."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def disableSleeps(self, steps: Iterable[object] | None = None) -> None:
        """End these sleeps at once; without an argument all."""
        self._rules.sleeps.update([None] if steps is None else map(read_step, steps))

    def disableRetryDelays(self, steps: Iterable[object] | None = None) -> None:
        """Begin the next attempts of these steps at once; without an argument of all."""
        self._rules.delays.update([None] if steps is None else map(read_step, steps))

    def mockStepResult(self, step: object, value: Any) -> None:
        """Give the step this result without calling it. A second one for the same step is an error. What a stream
        gives is kept when it is read first, so that it serves every instance and every restart."""
        key = read_step(step)
        if key in self._rules.results:
            raise ValueError(f"[WorkflowIntrospector] Trying to mock step '{key[0]}' multiple times!")
        self._rules.results[key] = MockedStream(value) if isinstance(value, ReadableStream) else value

    def mockStepError(self, step: object, error: BaseException, times: int | None = None) -> None:
        """Fail so many attempts, or all, with this error; the errors of several calls come one after the other. To be
        called before a result of the same step is mocked."""
        self._fail(read_step(step), "mock error", error, times)

    def forceStepTimeout(self, step: object, times: int | None = None) -> None:
        """Fail so many attempts, or all, as if each had taken too long."""
        self._fail(read_step(step), "force timeout", None, times)

    def _fail(self, key: Step, wanted: str, error: BaseException | None, times: int | None) -> None:
        if key in self._rules.results:
            raise ValueError(f"[WorkflowIntrospector] Trying to {wanted} on step '{key[0]}' after mocking its result!")
        self._rules.errors.setdefault(key, []).append((error, math.inf if times is None else times))

    def mockEvent(self, event: Mapping[str, Any]) -> None:
        """Send {"type", "payload"} once the instance waits for an event."""
        self._rules.events.append((str(event["type"]), event.get("payload")))

    def forceEventTimeout(self, step: object) -> None:
        """Have this wait end without its event."""
        self._rules.event_timeouts.add(read_step(step))

    disable_sleeps = disableSleeps
    disable_retry_delays = disableRetryDelays
    mock_step_result = mockStepResult
    mock_step_error = mockStepError
    force_step_timeout = forceStepTimeout
    mock_event = mockEvent
    force_event_timeout = forceEventTimeout


class InstanceIntrospector:
    """One instance, which need not exist yet. Use it as `async with`, or call `dispose`, which ends its mocks."""

    def __init__(self, worker: WorkerUnderTest, workflow: str, id: str) -> None:
        self._worker = worker
        self._workflow = workflow
        self._address = instances.address_of(worker.name, workflow, id)
        self.id = id

    async def modify(self, fn: Callable[[Modifier], Awaitable[None] | None]) -> None:
        """Call `fn`, sync or async, with what sets the mocks of this instance."""
        await _apply(fn, self._worker.mocks.of(self._workflow, self.id))

    def describe(self) -> Description | None:
        """Steps with their attempts, results and errors; None if there is no such instance."""
        with self._worker.store.snapshot() as snapshot:
            try:
                return describe(snapshot, self._address, asking.find(snapshot, self._address))
            except WorkflowError:
                return None

    async def waitForStepResult(self, step: object) -> Any:
        """The result of a step once it is recorded, of a stream one that reads it again, of a sensitive step
        "[REDACTED]"; raises the error of a step that failed, and if the instance ends without the step."""
        name, index = read_step(step)
        for pause_s in _pauses_s():
            shown = self.describe()
            for found in [] if shown is None else shown.steps:
                if (found.key.name, found.key.occurrence) == (name, index) and not found.key.path:
                    if found.error is not None:
                        raise JsException(found.error.message, found.error.name)
                    if found.stream is not None and not found.sensitive:
                        return open_kept(self._worker.store, self._address, found.key, found.stream)
                    if found.state in ("succeeded", "skipped"):
                        return found.output
            if shown is not None and shown.record.finished:
                raise RuntimeError(f'the instance is {shown.record.status} and has no result of step "{name}" {index}')
            await trio.sleep(pause_s)
        raise AssertionError("pauses never end")

    async def waitForStatus(self, status: str) -> None:
        """Return once the instance has this status; raises when it ends with another."""
        for pause_s in _pauses_s():
            shown = self.describe()
            if shown is not None and shown.record.status == status:
                return
            if shown is not None and shown.record.finished:
                raise RuntimeError(f"the instance is {shown.record.status} and will not be {status}")
            await trio.sleep(pause_s)

    async def getOutput(self) -> Any:
        """What `run` returned, once the instance is complete."""
        await self.waitForStatus("complete")
        shown = self.describe()
        assert shown is not None, "it is complete"
        return None if shown.record.output is None else payloads.decode_plain(shown.record.output)

    async def getError(self) -> dict[str, str]:
        """{"name", "message"}, once the instance is errored."""
        await self.waitForStatus("errored")
        shown = self.describe()
        assert shown is not None, "it is errored"
        assert shown.record.error is not None, "an errored instance has an error"
        return {"name": shown.record.error.name, "message": shown.record.error.message}

    async def dispose(self) -> None:
        self._worker.mocks.rules.pop((self._workflow, self.id), None)

    async def __aenter__(self) -> InstanceIntrospector:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.dispose()

    wait_for_step_result = waitForStepResult
    wait_for_status = waitForStatus
    get_output = getOutput
    get_error = getError


class WorkflowIntrospector:
    """The instances of a workflow that are created while this is open; one at a time for each workflow."""

    def __init__(self, worker: WorkerUnderTest, workflow: str) -> None:
        if workflow in worker.introspected:
            raise ValueError(f"workflow {workflow} is being introspected already; dispose of that first")
        worker.introspected.add(workflow)
        self._worker = worker
        self._workflow = workflow
        self._before = set(self._ids())

    def _ids(self) -> list[str]:
        with self._worker.store.snapshot() as snapshot:
            return list(instances.ids(snapshot, self._worker.name, self._workflow, reverse=True))

    async def modifyAll(self, fn: Callable[[Modifier], Awaitable[None] | None]) -> None:
        """Call `fn`, sync or async, with what sets the mocks of all instances of the workflow."""
        await _apply(fn, self._worker.mocks.of(self._workflow))

    def get(self) -> list[InstanceIntrospector]:
        """Those created since this was opened, oldest first; those of one millisecond in the order of their ids."""
        new = [id for id in self._ids() if id not in self._before]
        return [InstanceIntrospector(self._worker, self._workflow, id) for id in new]

    async def dispose(self) -> None:
        self._worker.mocks.rules.pop((self._workflow, ""), None)
        self._worker.introspected.discard(self._workflow)

    async def __aenter__(self) -> WorkflowIntrospector:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.dispose()

    modify_all = modifyAll


async def _apply(fn: Callable[[Modifier], Awaitable[None] | None], rules: Rules) -> None:
    result = fn(Modifier(rules))
    if inspect.isawaitable(result):
        await result


def introspect_workflow_instance(worker: WorkerUnderTest, binding: object, id: str) -> InstanceIntrospector:
    """Look into one instance. `binding`: the object in env, or its name there."""
    return InstanceIntrospector(worker, worker.workflow_of(binding), id)


def introspect_workflow(worker: WorkerUnderTest, binding: object) -> WorkflowIntrospector:
    """Look into the instances that are created from now on."""
    return WorkflowIntrospector(worker, worker.workflow_of(binding))


introspectWorkflowInstance = introspect_workflow_instance  # noqa: N816 - Cloudflare's name
introspectWorkflow = introspect_workflow  # noqa: N816
