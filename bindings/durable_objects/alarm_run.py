"""One run of an object's alarm handler, and what follows it: no alarm, another attempt, or what the handler has set."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from edge_runtime.actors.alarms import next_attempt
from edge_runtime.actors.api import ActorContext
from edge_runtime.actors.storage import ActorStorage
from edge_runtime.limits import ALARM_WALL_MS
from edge_runtime.store.api import Batch
from edge_runtime.workers.js_values import JsDict

_log = logging.getLogger("edge.durable_objects")


class AlarmRun:
    """The alarm is due when it is made."""

    __slots__ = ("_class_name", "_context", "_retries", "_storage", "info")

    def __init__(self, context: ActorContext, storage: ActorStorage, class_name: str) -> None:
        self._context = context
        self._storage = storage
        self._class_name = class_name
        self._retries = retries = context.retries
        self.info = JsDict(retryCount=retries, isRetry=retries > 0, scheduledTime=context.scheduled_ms)
        """What the handler is called with."""

    async def run(self, handler: Callable[[trio.CancelScope], Awaitable[object]]) -> None:
        """Call `handler(limit)`; the scope `limit` is cancelled when it takes longer than an alarm may."""
        self._storage.begin_alarm()
        try:
            succeeded = await self._succeeds(handler)
        finally:
            replaced = self._storage.end_alarm()
        if not replaced:
            self._ended(failed=not succeeded)

    async def _succeeds(self, handler: Callable[[trio.CancelScope], Awaitable[object]]) -> bool:
        with trio.move_on_after(ALARM_WALL_MS / 1000) as limit:
            try:
                await handler(limit)
            except trio.Cancelled:
                raise
            except Exception:
                # Logged with its event; what follows is the retry.
                return False
            return True
        return False

    def _ended(self, *, failed: bool) -> None:
        """Clear the alarm, or set its next attempt, together with what the handler wrote last."""
        context, retries = self._context, self._retries
        due_ms = None
        if failed:
            fraction = int.from_bytes(context.random.bytes(2), "big") / 65536
            due_ms = next_attempt(retries, context.clock.now_ms(), fraction)
            if due_ms is None:
                _log.error(
                    "the alarm of %s %s was dropped after %d retries", self._class_name, context.address.id, retries
                )
        _set_alarm(context, due_ms, 0 if due_ms is None else retries + 1)

    def abort(self, *, retry: bool) -> None:
        """The object is reset while the handler runs: it gets its next attempt, or none, unless it has set an alarm."""
        if self._storage.end_alarm():
            return
        if retry:
            self._ended(failed=True)
        else:
            drop_alarm(self._context)
        self._context.commit(Batch())


def drop_alarm(context: ActorContext) -> None:
    _set_alarm(context, None, 0)


def _set_alarm(context: ActorContext, due_ms: int | None, retries: int) -> None:
    turn = context.turn()
    turn.confirmed = True
    context.set_timer(turn.batch, due_ms, retries=retries)
