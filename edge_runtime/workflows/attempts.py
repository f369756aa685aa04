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
from edge_runtime.store.transaction import Transaction
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workers.conversion import from_wire
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workflows import journal, payloads
from edge_runtime.workflows.blocking import run_interruptible
from edge_runtime.workflows.branches import current_branch
from edge_runtime.workflows.effects import (
    AskDelay,
    AttemptRaised,
    AttemptSucceeded,
    DelayComputed,
    Input,
    RunRaised,
    StartAttempt,
    Undo,
    Value,
)
from edge_runtime.workflows.errors import (
    FATAL,
    INTERNAL,
    TIMEOUT,
    error_of,
    is_non_retryable,
    record_of,
    retry_after_ms,
)
from edge_runtime.workflows.interception import Interceptor
from edge_runtime.workflows.journal import StepKey
from edge_runtime.workflows.step_config import DelayFunction

PutIn = Callable[[Input, Transaction | None], None]
Work = Callable[[EventContext, "Call", StartAttempt | AskDelay], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Call:
    """What the script gave to `step.do`. `run` is called with a function that makes the step's ctx, and may be sync or
    async."""

    run: Callable[[Callable[[], Any]], Any]
    blocking: bool
    """A plain function: it runs in a thread."""
    delay: DelayFunction | None
    shown_config: Mapping[str, Any]
    undo: Call | None = None
    """The step's rollback handler."""
    transactional: bool = False
    """What it writes through bindings is committed with its result."""


class Attempts:
    """The attempts of one activation. Each ends with one input to the engine, unless it was cancelled.

    They end with the driver, which calls `cancel`; what the callbacks start and use belongs to an event of each
    attempt's own.
    """

    def __init__(
        self,
        context: ActorContext,
        run_event: EventContext,
        put_in: PutIn,
        interceptor: Interceptor | None = None,
    ) -> None:
        self._context = context
        self._interceptor = interceptor
        self._run_event = run_event
        self._put_in = put_in
        self._scopes: set[trio.CancelScope] = set()
        self._cancelled = False
        self._all_left = trio.Event()
        self.calls: dict[StepKey, Call] = {}

    @property
    def running(self) -> bool:
        return bool(self._scopes)

    def cancel(self) -> None:
        self._cancelled = True
        for scope in self._scopes:
            scope.cancel()

    async def wait_ended(self) -> None:
        """After `cancel`: return when no callback runs any more, as far as it can be ended at all."""
        if self._scopes:
            await self._all_left.wait()

    def _leave(self, scope: trio.CancelScope) -> None:
        self._scopes.discard(scope)
        if self._cancelled and not self._scopes:
            self._all_left.set()

    def start(self, effect: StartAttempt) -> None:
        work = self._attempt if self._interceptor is None else self._intercepted
        self._begin(effect, work, effect.config.timeout_ms)

    def ask_delay(self, effect: AskDelay) -> None:
        self._begin(effect, self._ask_delay, RETRY_DELAY_ANSWER_MS)

    def _begin(self, effect: StartAttempt | AskDelay, work: Work, timeout_ms: int) -> None:
        scope = trio.CancelScope(deadline=trio.current_time() + timeout_ms / 1000)
        self._scopes.add(scope)
        self._run_event.start(self._live, effect, self.calls[effect.key], work, scope)

    async def _live(self, effect: StartAttempt | AskDelay, call: Call, work: Work, scope: trio.CancelScope) -> None:
        """The task of an attempt, or of a question for its delay."""
        current_branch.set(None)
        key, events = effect.key, self._context.events
        event = events.begin(EventKind.STEP, f"{self._context.address.namespace}/{key.name}", actor=self._context)
        result: Any = None
        error: BaseException | None = None
        try:
            with scope:
                result = await work(event, call, effect)
        except trio.Cancelled:
            self._leave(scope)
            self._end(event, effect, Outcome.CANCELED)
            raise
        except BaseExceptionGroup as group:
            cancelled, error = group.split(trio.Cancelled)
            if cancelled is not None:
                self._leave(scope)
                self._end(event, effect, Outcome.CANCELED)
                raise cancelled from None
        except BaseException as raised:
            error = raised
        self._leave(scope)
        if self._cancelled:
            self._end(event, effect, Outcome.CANCELED)
            return
        if isinstance(effect, StartAttempt):
            input, text = _judge(effect, result, error, event.meter.cpu_us, timed_out=scope.cancel_called)
        else:
            input, text = _judge_delay(effect, result, error, timed_out=scope.cancel_called)
        self._end(event, effect, Outcome.EXCEPTION if text else Outcome.OK, text)
        if event.transaction is not None:
            event.transaction.closed = True
        self._put_in(input, event.transaction)

    def _end(self, event: EventContext, effect: StartAttempt | AskDelay, outcome: Outcome, error: str = "") -> None:
        detail = f"{self._context.address.id} {effect.key} attempt {effect.attempt}"
        self._context.events.end(event, outcome, detail, error)

    async def _attempt(self, event: EventContext, call: Call, effect: StartAttempt | AskDelay) -> Any:
        """Run the callback once."""
        ctx = partial(_ctx, call, effect)
        if call.transactional:
            event.transaction = Transaction(journal.answers_key(self._context.address, effect.key))
        if not call.blocking:
            return await event.run(call.run, ctx)
        outer = current_event.set(event)
        try:
            result = await run_interruptible(self._context.offload, event, measure_call, event.meter, call.run, ctx)
        finally:
            current_event.reset(outer)
        return await event.run(_same, result) if inspect.isawaitable(result) else result

    async def _intercepted(self, event: EventContext, call: Call, effect: StartAttempt | AskDelay) -> Any:
        assert isinstance(effect, StartAttempt), "the effect that this is called for"
        assert self._interceptor is not None, "what this is called for"
        run = partial(self._attempt, event, call, effect)
        return await self._interceptor.attempt(self._context.address, event, effect, run)

    async def _ask_delay(self, event: EventContext, call: Call, effect: StartAttempt | AskDelay) -> int:
        """Ask the script's delay function."""
        assert isinstance(effect, AskDelay), "the effect that this is called for"
        if call.delay is None:
            raise TypeError("the step was recorded with a delay function and has none now")
        given = JsDict(ctx=_ctx(call, effect), error=error_of(effect.error))
        return parse_duration_ms(await event.run(call.delay, given))


def _ctx(call: Call, effect: StartAttempt | AskDelay) -> Any:
    if isinstance(effect, StartAttempt) and effect.undo is not None:
        return _undo_ctx(call, effect.undo)
    key = effect.key
    return from_wire(
        {"step": {"name": key.name, "count": key.occurrence}, "attempt": effect.attempt, "config": call.shown_config}
    )


def _undo_ctx(call: Call, undo: Undo) -> Any:
    """What a rollback handler is given: the step as it was, its result, and why it is undone."""
    key, result = undo.key, undo.result
    step = {"name": key.name, "count": key.occurrence}
    return JsDict(
        ctx=from_wire({"step": step, "attempt": undo.attempt, "config": call.shown_config}),
        error=error_of(undo.error),
        output=payloads.decode(result.encoded) if isinstance(result, Value) and result.encoded is not None else None,
        stepName=f"{key.name}-{key.occurrence}",
    )


def _judge(
    effect: StartAttempt, result: Any, error: BaseException | None, cpu_us: int, *, timed_out: bool
) -> tuple[Input, str]:
    """The engine's input and the error's text for the log."""
    key, attempt = effect.key, effect.attempt
    if timed_out:
        record = ErrorRecord(TIMEOUT, f"Execution timed out after {effect.config.timeout_ms}ms")
        return AttemptRaised(key, attempt, record, cpu_us=cpu_us), record.message
    if error is not None:
        record = record_of(error)
        after_ms = retry_after_ms(error)
        raised = AttemptRaised(key, attempt, record, not is_non_retryable(error), cpu_us, after_ms)
        return raised, record.traceback or record.message
    if effect.undo is not None:
        return AttemptSucceeded(key, attempt, b"", cpu_us), ""
    try:
        encoded = payloads.encode_result(result)
    except Exception as refusal:
        text = f'Step "{key}" returned a value which is not serialisable: {refusal}'
        return RunRaised(ErrorRecord(FATAL, text), rollback=False), text
    if len(encoded) > STEP_RESULT_MAX:
        text = f"Step {key} output is too large. Maximum allowed size is 1MiB."
        return AttemptRaised(key, attempt, ErrorRecord(INTERNAL, text), retryable=False, cpu_us=cpu_us), text
    return AttemptSucceeded(key, attempt, encoded, cpu_us), ""


def _judge_delay(effect: AskDelay, result: Any, error: BaseException | None, *, timed_out: bool) -> tuple[Input, str]:
    """The delay, or the failure of the step, which is Cloudflare's rule where there is no usable answer."""
    key, attempt = effect.key, effect.attempt
    if timed_out:
        text = f"the delay function did not answer within {RETRY_DELAY_ANSWER_MS} ms"
    elif error is not None:
        text = f"the delay function failed: {type(error).__name__}: {error}"
    else:
        return DelayComputed(key, attempt, result), ""
    return DelayComputed(key, attempt, 0, ErrorRecord("NonRetryableDelayError", text)), text


async def _same(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
