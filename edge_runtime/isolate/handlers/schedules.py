"""Cron triggers: each is an actor with a timer and nothing else, so it fires at least once, also after downtime."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from edge_runtime.actors.api import ActorAddress, ActorBody, ActorContext, ActorHost, ActorKind
from edge_runtime.actors.timers import read_record, schedule, scheduled_namespaces
from edge_runtime.config.cron import parse
from edge_runtime.event import EventKind, Outcome, outcome_of
from edge_runtime.limits import CRON_STARTS_MAX, SCHEDULED_WALL_MS
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.store.api import Batch, Store
from edge_runtime.tracebacks import script_traceback

_log = logging.getLogger("edge.schedules")


@dataclass
class ScheduledController:
    """What a `scheduled` handler gets first."""

    scheduledTime: int
    cron: str

    def noRetry(self) -> None:
        """Accepted for Cloudflare's sake: a failed handler is not retried here anyway."""


ScheduledHandler = Callable[[ScheduledController], Any]
"""May return an awaitable."""


class CronBody:
    """Runs the handler when due, then sets the next time. A crash in between runs it again, but no more than
    CRON_STARTS_MAX times in all: it may be the handler that ends the process. How often it has begun is durable before
    it begins; an orderly stop of the isolate takes that back.
    """

    def __init__(self, context: ActorContext, handler: ScheduledHandler, name: str) -> None:
        self._context = context
        self._handler = handler
        self._name = name
        self._cron = context.address.namespace
        self._running = 0
        self._begun: int | None = None
        """How often the handler had begun before for the time that is due; None while it does not run for one."""

    async def start(self) -> None:
        pass

    async def input_open(self) -> None:
        pass

    async def receive(self, message: object) -> object:
        """Run the handler now, for the time given (ms); the timer is not touched. Returns the outcome."""
        assert isinstance(message, int)
        return await self._run(message)

    async def timer(self) -> None:
        context = self._context
        due_ms, begun = context.due_ms, context.retries
        assert due_ms is not None
        if begun < CRON_STARTS_MAX:
            await self._note_begun(due_ms, begun + 1)
            self._begun = begun
            try:
                await self._run(due_ms)
            finally:
                self._begun = None
        else:
            _log.error(
                'the trigger "%s" of %d is dropped: its process has ended %d times while it ran',
                self._cron,
                due_ms,
                begun,
            )
        batch = Batch()
        context.set_timer(batch, parse(self._cron).next_after_ms(context.clock.now_ms()))
        await context.commit(batch)

    def _note_begun(self, due_ms: int, begun: int) -> Promise[None]:
        batch = Batch()
        self._context.set_timer(batch, due_ms, retries=begun)
        return self._context.commit(batch)

    async def _run(self, scheduled_ms: int) -> Outcome:
        events = self._context.events
        event = events.begin(EventKind.SCHEDULED, self._name)
        outcome, error = Outcome.CANCELED, ""
        self._running += 1
        try:
            with trio.move_on_after(SCHEDULED_WALL_MS / 1000) as limit:
                await event.run(self._handler, ScheduledController(scheduled_ms, self._cron))
                outcome = Outcome.OK
            if limit.cancelled_caught:
                error = f"the scheduled handler ran longer than {SCHEDULED_WALL_MS} ms and was cancelled\n"
                outcome = Outcome.EXCEEDED_WALL_TIME
        except trio.Cancelled:
            raise
        except BaseException as failure:
            outcome = outcome_of(failure)
            error = script_traceback(failure)
        finally:
            self._running -= 1
            events.end(event, outcome, f'"{self._cron}"', error)
        return outcome

    async def stop(self) -> None:
        due_ms = self._context.due_ms
        if self._begun is not None and due_ms is not None:
            self._note_begun(due_ms, self._begun)

    @property
    def answering(self) -> bool:
        return False

    @property
    def idle(self) -> bool:
        return not self._running


class _CronFactory:
    idle_ms = 0

    def __init__(self, handler: ScheduledHandler, name: str) -> None:
        self._handler = handler
        self._name = name

    def __call__(self, context: ActorContext) -> ActorBody:
        return CronBody(context, self._handler, self._name)


def register_crons(host: ActorHost, worker: str, crons: tuple[str, ...], handler: ScheduledHandler, name: str) -> None:
    for cron in crons:
        host.register(worker, ActorKind.CRON, cron, _CronFactory(handler, name))


def cron_address(worker: str, cron: str) -> ActorAddress:
    return ActorAddress(worker, ActorKind.CRON, cron, "")


async def keep_schedule(
    store: Store, clock: Clock, worker: str, crons: tuple[str, ...], owns: Callable[[ActorAddress], bool]
) -> None:
    """Set the timer of every configured cron that has none and clear those of crons no longer configured.

    A time that passed while nothing ran stays due, and so fires once at start. Triggers that this isolate does not
    own are left to those that do.
    """
    batch = Batch()
    with store.snapshot() as snapshot:
        for cron in crons:
            address = cron_address(worker, cron)
            if not owns(address):
                continue
            record = read_record(snapshot, address)
            if record is None or record.due_ms is None:
                schedule(batch, snapshot, address, parse(cron).next_after_ms(clock.now_ms()))
        for stale in scheduled_namespaces(snapshot, worker, ActorKind.CRON):
            if stale not in crons and owns(cron_address(worker, stale)):
                schedule(batch, snapshot, cron_address(worker, stale), None)
    if batch:
        await store.commit(batch)
