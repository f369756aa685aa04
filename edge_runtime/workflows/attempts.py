"""Attempts: running a step's callback as an event of its own, with its timeout, and asking for retry delays."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from edge_runtime.actors.api import ActorContext
from edge_runtime.config.durations import parse_duration_ms
from edge_runtime.event import EventContext, EventKind, Outcome, current_event
from edge_runtime.limits import RETRY_DELAY_ANSWER_MS, STEP_RESULT_MAX
from edge_runtime.metering.meter import measure_call
from edge_runtime.promise import Promise
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workers.conversion import from_wire
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workflows import payloads
from edge_runtime.workflows.branches import current_branch
from edge_runtime.workflows.effects import (
    AskDelay,
    AttemptRaised,
    AttemptSucceeded,
    DelayComputed,
    Input,
    RunRaised,
    StartAttempt,
)
from edge_runtime.workflows.errors import FATAL, INTERNAL, TIMEOUT, error_of, is_non_retryable, record_of
from edge_runtime.workflows.journal import StepKey
from edge_runtime.workflows.step_config import DelayFunction


@dataclass(frozen=True, slots=True)
class Call:
    """What the script gave to `step.do`. `run` is called with the step's ctx and may be sync or async."""

    run: Callable[[Any], Any]
    blocking: bool
    """A plain function: it runs in a thread."""
    delay: DelayFunction | None
    shown_config: Mapping[str, Any]


class Attempts:
    """The attempts of one activation. Each ends with one input to the engine, unless it was cancelled.

    Their tasks belong to `run_event`, so they end with the run; what the callbacks start and use belongs to an event
    of each attempt's own.
    """

    def __init__(self, context: ActorContext, run_event: EventContext, put_in: Callable[[Input], None]) -> None:
        self._context = context
        self._run_event = run_event
        self._put_in = put_in
        self._scopes: set[trio.CancelScope] = set()
        self.calls: dict[StepKey, Call] = {}

    @property
    def running(self) -> bool:
        return bool(self._scopes)

    def cancel(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    def start(self, effect: StartAttempt) -> None:
        self._spawn(effect.key, self._attempt, effect)

    def ask_delay(self, effect: AskDelay) -> None:
        self._spawn(effect.key, self._ask_delay, effect)

    def _spawn(
        self,
        key: StepKey,
        work: Callable[[EventContext, Call, Any], Awaitable[tuple[Input, str]]],
        effect: StartAttempt | AskDelay,
    ) -> None:
        scope = trio.CancelScope()
        self._scopes.add(scope)
        name = f"{self._context.address.namespace}/{key.name}"
        event = self._context.events.begin(EventKind.STEP, name, actor=self._context)
        call = self.calls[key]
        ended = self._run_event.spawn(self._within, scope, partial(work, event, call, effect))
        detail = f"{self._context.address.id} {key} attempt {effect.attempt}"
        ended.add_done_callback(partial(self._ended, scope, event, detail))

    async def _within(
        self, scope: trio.CancelScope, work: Callable[[], Awaitable[tuple[Input, str]]]
    ) -> tuple[Input, str] | None:
        current_branch.set(None)
        with scope:
            return await work()
        return None

    def _ended(
        self, scope: trio.CancelScope, event: EventContext, detail: str, ended: Promise[tuple[Input, str] | None]
    ) -> None:
        self._scopes.discard(scope)
        outcome = ended.result() if ended.error is None else None
        if outcome is None or scope.cancel_called:
            self._context.events.end(event, Outcome.CANCELED, detail)
            return
        input, error = outcome
        self._context.events.end(event, Outcome.EXCEPTION if error else Outcome.OK, detail, error)
        self._put_in(input)

    async def _attempt(self, event: EventContext, call: Call, effect: StartAttempt) -> tuple[Input, str]:
        """Run the callback once; returns the engine's input and the error's text for the log."""
        key, attempt, timeout_ms = effect.key, effect.attempt, effect.config.timeout_ms
        result: Any = None
        error: BaseException | None = None
        with trio.CancelScope(deadline=trio.current_time() + timeout_ms / 1000) as timeout:
            try:
                result = await self._run(event, call, self._ctx(call, key, attempt))
            except trio.Cancelled:
                raise
            except BaseExceptionGroup as group:
                cancelled, error = group.split(trio.Cancelled)
                if cancelled is not None:
                    raise cancelled from None
            except BaseException as raised:
                error = raised
        if timeout.cancel_called:
            record = ErrorRecord(TIMEOUT, f"Execution timed out after {timeout_ms}ms")
            return AttemptRaised(key, attempt, record), record.message
        if error is not None:
            record = record_of(error)
            return AttemptRaised(key, attempt, record, not is_non_retryable(error)), record.traceback or str(error)
        return _judge(key, attempt, result)

    async def _run(self, event: EventContext, call: Call, ctx: Any) -> Any:
        if not call.blocking:
            return await event.run(call.run, ctx)
        outer = current_event.set(event)
        try:
            result = await self._context.offload(measure_call, event.meter, call.run, ctx)
        finally:
            current_event.reset(outer)
        return await event.run(_same, result) if inspect.isawaitable(result) else result

    async def _ask_delay(self, event: EventContext, call: Call, effect: AskDelay) -> tuple[Input, str]:
        """Ask the script's delay function, or fail the step as Cloudflare does when it gives no usable answer."""
        key, attempt = effect.key, effect.attempt
        given = JsDict(ctx=self._ctx(call, key, attempt), error=error_of(effect.error))
        text = f"the delay function did not answer within {RETRY_DELAY_ANSWER_MS} ms"
        with trio.move_on_after(RETRY_DELAY_ANSWER_MS / 1000):
            try:
                if call.delay is None:
                    raise TypeError("the step was recorded with a delay function and has none now")
                answer = await event.run(call.delay, given)
                return DelayComputed(key, attempt, parse_duration_ms(answer)), ""
            except trio.Cancelled:
                raise
            except Exception as error:
                text = f"the delay function failed: {type(error).__name__}: {error}"
        return DelayComputed(key, attempt, 0, ErrorRecord("NonRetryableDelayError", text)), text

    def _ctx(self, call: Call, key: StepKey, attempt: int) -> Any:
        return from_wire(
            {"step": {"name": key.name, "count": key.occurrence}, "attempt": attempt, "config": call.shown_config}
        )


def _judge(key: StepKey, attempt: int, result: Any) -> tuple[Input, str]:
    try:
        encoded = payloads.encode_result(result)
    except Exception as error:
        text = f'Step "{key}" returned a value which is not serialisable: {error}'
        return RunRaised(ErrorRecord(FATAL, text)), text
    if len(encoded) > STEP_RESULT_MAX:
        text = f"Step {key} output is too large. Maximum allowed size is 1MiB."
        return AttemptRaised(key, attempt, ErrorRecord(INTERNAL, text), retryable=False), text
    return AttemptSucceeded(key, attempt, encoded), ""


async def _same(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
