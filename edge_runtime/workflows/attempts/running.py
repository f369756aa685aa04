"""Attempts: running a step's callback as an event of its own, with its timeout, and asking for retry delays."""

from __future__ import annotations

import contextvars
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from edge_runtime.actors.api import ActorContext
from edge_runtime.event import EventContext, EventKind, Outcome, current_event, outcome_of
from edge_runtime.limits import RETRY_DELAY_ANSWER_MS
from edge_runtime.metering.threads import measure_call
from edge_runtime.store.transaction import Transaction
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workflows.attempts.blocking import run_interruptible
from edge_runtime.workflows.attempts.interception import Interceptor
from edge_runtime.workflows.attempts.verdicts import DelayRefused, judge, judge_delay, read_delay
from edge_runtime.workflows.attempts.workers import AttemptWorkers
from edge_runtime.workflows.core.effects import AskDelay, Input, StartAttempt
from edge_runtime.workflows.core.journal import ROLLBACK, StepKey
from edge_runtime.workflows.script.branches import current_branch
from edge_runtime.workflows.script.calls import Call, ctx_of
from edge_runtime.workflows.script.errors import error_of
from edge_runtime.workflows.stored import instance_keys, streams
from edge_runtime.workflows.stored.instances import home_of

PutIn = Callable[[Input, Transaction | None], None]


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
        workers: AttemptWorkers,
        interceptor: Interceptor | None = None,
    ) -> None:
        self.context = context
        self.interceptor = interceptor
        self.put_in = put_in
        self._workers = workers
        self._run_event = run_event
        self._live: set[_Attempt] = set()
        self.cancelled = False
        self._all_left = trio.Event()
        self.calls: dict[StepKey, Call] = {}

    @property
    def running(self) -> bool:
        return bool(self._live)

    def cancel(self) -> None:
        self.cancelled = True
        for attempt in self._live:
            if attempt.scope is not None:
                attempt.scope.cancel()

    def replaced(self) -> Attempts:
        """Cancel what runs; returns those that follow, which have nothing to call but the rollback handlers."""
        following = Attempts(self.context, self._run_event, self.put_in, self._workers, self.interceptor)
        following.calls.update(item for item in self.calls.items() if item[0].path[:1] == (ROLLBACK,))
        self.cancel()
        return following

    def let_go(self) -> None:
        """After `cancel`: put in nothing any more."""
        self.put_in = _nothing
        self.calls.clear()

    async def wait_ended(self) -> None:
        """After `cancel`: return when no callback runs any more, as far as it can be ended at all."""
        if self._live:
            await self._all_left.wait()

    def start(self, effect: StartAttempt) -> None:
        self._begin(_Callback(self, effect))

    def ask_delay(self, effect: AskDelay) -> None:
        self._begin(_DelayFunction(self, effect))

    def _begin(self, attempt: _Attempt) -> None:
        self._live.add(attempt)
        self._workers.begin(attempt, self._run_event)

    def left(self, attempt: _Attempt) -> None:
        self._live.discard(attempt)
        if self.cancelled and not self._live:
            self._all_left.set()


class _Attempt(ABC):
    """One attempt, or one question for a delay: a job of the workers, in the context that the script has now."""

    __slots__ = ("_attempts", "_call", "_effect", "_error", "_event", "_result", "context", "scope")

    def __init__(self, attempts: Attempts, effect: StartAttempt | AskDelay) -> None:
        self._attempts = attempts
        self._effect = effect
        self._call = attempts.calls[effect.key]
        self._event: EventContext | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self.context = contextvars.copy_context()
        self.scope: trio.CancelScope | None = None

    @property
    def cancelled(self) -> bool:
        return self._attempts.cancelled

    async def run(self) -> None:
        current_branch.set(None)
        context, effect = self._attempts.context, self._effect
        name = f"{context.address.namespace}/{effect.key.name}"
        self._event = event = context.events.begin(EventKind.STEP, name, actor=context)
        try:
            self._result = await self._work(event)
        except trio.Cancelled:
            raise
        except BaseExceptionGroup as group:
            cancelled, self._error = group.split(trio.Cancelled)
            if cancelled is not None:
                raise cancelled from None
        except BaseException as error:
            self._error = error

    def over(self, *, timed_out: bool) -> None:
        event = self._event
        self._attempts.left(self)
        if event is None:
            return
        if self._attempts.cancelled:
            self._end(event, Outcome.CANCELED)
            return
        input, text = self._judge(event, timed_out)
        if timed_out:
            outcome = Outcome.EXCEEDED_WALL_TIME
        elif self._error is not None:
            outcome = outcome_of(self._error)
        else:
            outcome = Outcome.EXCEPTION if text else Outcome.OK
        self._end(event, outcome, text)
        if event.transaction is not None:
            event.transaction.closed = True
        self._attempts.put_in(input, event.transaction)

    def cut(self) -> None:
        self._attempts.left(self)
        if self._event is not None:
            self._end(self._event, Outcome.CANCELED)

    def _end(self, event: EventContext, outcome: Outcome, error: str = "") -> None:
        context, effect = self._attempts.context, self._effect
        context.events.end(event, outcome, f"{context.address.id} {effect.key} attempt {effect.attempt}", error)

    @property
    @abstractmethod
    def timeout_s(self) -> float: ...

    @abstractmethod
    async def _work(self, event: EventContext) -> Any: ...

    @abstractmethod
    def _judge(self, event: EventContext, timed_out: bool) -> tuple[Input, str]:
        """The engine's input and the error's text for the log."""


class _Callback(_Attempt):
    __slots__ = ()

    _effect: StartAttempt

    @property
    def timeout_s(self) -> float:
        return self._effect.config.timeout_ms / 1000

    async def _work(self, event: EventContext) -> Any:
        attempts, effect = self._attempts, self._effect
        if attempts.interceptor is None:
            result = await self._run_callback(event)
        else:
            run = partial(self._run_callback, event)
            result = await attempts.interceptor.attempt(attempts.context.address, event, effect, run)
        if isinstance(result, ReadableStream) and effect.undo is None:
            return await streams.keep(attempts.context, home_of(attempts.context.address), effect.key, result)
        return result

    async def _run_callback(self, event: EventContext) -> Any:
        call, effect, context = self._call, self._effect, self._attempts.context
        ctx = partial(ctx_of, call, effect, context)
        if call.transactional:
            event.transaction = Transaction(instance_keys.answers_key(home_of(context.address), effect.key))
        if not call.blocking:
            return await event.run(call.run, ctx)
        outer = current_event.set(event)
        try:
            result = await run_interruptible(context.offload, event, measure_call, event.meter, call.run, ctx)
        finally:
            current_event.reset(outer)
        return await event.run(_same, result) if inspect.isawaitable(result) else result

    def _judge(self, event: EventContext, timed_out: bool) -> tuple[Input, str]:
        return judge(self._effect, self._result, self._error, event.meter.cpu_us, timed_out=timed_out)


class _DelayFunction(_Attempt):
    """The script's function tells how long to wait before the next attempt."""

    __slots__ = ()

    _effect: AskDelay

    @property
    def timeout_s(self) -> float:
        return RETRY_DELAY_ANSWER_MS / 1000

    async def _work(self, event: EventContext) -> int:
        call, effect = self._call, self._effect
        if call.delay is None:
            raise DelayRefused("is gone: the step was recorded with one and has none now")
        given = JsDict(ctx=ctx_of(call, effect, self._attempts.context), error=error_of(effect.error))
        return read_delay(await event.run(call.delay, given))

    def _judge(self, event: EventContext, timed_out: bool) -> tuple[Input, str]:
        return judge_delay(self._effect, self._result, self._error, timed_out=timed_out)


def _nothing(_: Input, __: Transaction | None) -> None:
    pass


async def _same(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
