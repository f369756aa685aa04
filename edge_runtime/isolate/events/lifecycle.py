"""Where events begin and end: each is charged to the ledger before its answer goes out, and again for what follows
that; and logged once, after its last background work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import trio

from edge_runtime.config.model import WorkerLimits
from edge_runtime.control import ChargeLost
from edge_runtime.event import EventContext, EventKind, Outcome
from edge_runtime.isolate.events.activity import ObjectActivity
from edge_runtime.isolate.events.log_lines import LogLines
from edge_runtime.isolate.events.socket_messages import WorkerSockets
from edge_runtime.metering.ledger import Ledger, Product
from edge_runtime.metering.loop_thread import show_part_charged
from edge_runtime.metering.meter import BACKGROUND, BACKGROUND_NAME, NATIVE, NATIVE_NAME, Meter
from edge_runtime.metering.threads import show_charged_in_threads
from edge_runtime.seams import Clock, Flavour
from edge_runtime.tracebacks import script_traceback
from edge_runtime.workers.network import Net
from edge_runtime.workers.websocket_recipient import SocketFlags

# Members of an enum are found by its metaclass, which takes longer than a global.
_FETCH = EventKind.FETCH
_OK = Outcome.OK
_WORKER = Product.WORKER
_OBJECT = Product.OBJECT
_WALL_LEFT_S = 0.001
"""An event that ends so shortly after it was charged is not charged again for that."""
_OUR_REFERENCES = 3
"""To a meter that nobody else holds, as sys.getrefcount counts: its argument and a local variable among them."""


@dataclass(slots=True)
class _Late:
    """An event that was charged, and whose meter may still be."""

    meter: Meter
    kind: str
    name: str
    product: str


def _no_label(product: str, kind: str, name: str) -> float:
    return 0.0


class IsolateEvents:
    """`event.Events` of one isolate; `log` is what to send to the supervisor."""

    def __init__(
        self,
        nursery: trio.Nursery,
        flavour: Flavour,
        clock: Clock,
        ledger: Ledger,
        net: Net,
        limits: WorkerLimits,
        socket_flags: SocketFlags,
        label: Callable[[str, str, str], float] = _no_label,
    ) -> None:
        """`label(product, kind, name)`: a number for events of this kind, for who watches what runs."""
        self._nursery = nursery
        self._flavour = flavour
        self._ledger = ledger
        self._net = net
        self._subrequests_max = limits.subrequests
        self._limit_s = limits.cpu_ms / 1000
        self._label = label
        self._late = [_Late(BACKGROUND, *BACKGROUND_NAME, _WORKER), _Late(NATIVE, *NATIVE_NAME, _WORKER)]
        BACKGROUND.label = label(_WORKER, *BACKGROUND_NAME)
        NATIVE.label = label(_WORKER, *NATIVE_NAME)
        self._activity = ObjectActivity(ledger)
        self._sockets = WorkerSockets(nursery, self, socket_flags)
        self.log = LogLines(clock)
        self.open = 0
        self._used = False
        self._none_open: trio.Event | None = None
        self._unanswered: set[EventContext] = set()
        self._none_unanswered: trio.Event | None = None

    def begin(self, kind: EventKind, name: str, *, actor: Any = None, connection: int = 0) -> EventContext:
        """`connection`: the number of the one that the event answers, if it is of a client."""
        self.open += 1
        self._used = True
        if actor is None:
            product, whose = _WORKER, connection
        else:
            product, whose = actor.address.kind, actor.number
        label = self._label(product, kind, name) + whose
        event = EventContext(kind, name, self._nursery, self._flavour, actor, Meter(self._limit_s, label))
        event.net = self._net
        event.sockets = self._sockets
        event.subrequests_max = self._subrequests_max
        if product == _OBJECT:
            self._activity.begin(event)
        elif kind is _FETCH and actor is None:
            self._unanswered.add(event)
        return event

    def was_used(self) -> bool:
        """Whether an event began since this was last asked."""
        used, self._used = self._used, False
        return used

    def answered(self, event: EventContext) -> None:
        """The head of the answer has gone out; what follows is a stream or background work."""
        self._unanswered.discard(event)
        if self._none_unanswered is not None and not self._unanswered:
            self._none_unanswered.set()

    def acknowledge(self, event: EventContext, outcome: Outcome = Outcome.OK) -> None:
        self._charge(event, outcome, monotonic())

    def end(self, event: EventContext, outcome: Outcome = Outcome.OK, detail: str = "", error: str = "") -> None:
        self.answered(event)
        if event.has_open_work:
            self.acknowledge(event, outcome)
            self._nursery.start_soon(self._finish, event, outcome, detail, error)
        else:
            self._account(event, outcome, detail, error)

    async def _finish(self, event: EventContext, outcome: Outcome, detail: str, error: str) -> None:
        try:
            await event.finish()
        finally:
            for failure in event.failed_wait_until:
                error += script_traceback(failure)
            self._account(event, outcome, detail, error)

    def _account(self, event: EventContext, outcome: Outcome, detail: str, error: str) -> None:
        meter = event.meter
        now_s = monotonic()
        wall_ms = (now_s - meter.started_s) * 1000
        self.open -= 1
        if self._none_open is not None and not self.open:
            self._none_open.set()
        if outcome is _OK and meter.stop_s != meter.limit_s:
            outcome = Outcome.EXCEEDED_CPU  # it has swallowed the stop, or was stopped after its reply
        product = _WORKER if event.actor is None else event.actor.address.kind
        if product == _OBJECT:
            self._activity.end(event, now_s)
        if (
            event.charged_as is not outcome
            or meter.cpu_s != meter.charged_s
            or meter.quantities
            or now_s - meter.charged_until_s > _WALL_LEFT_S
        ):
            self._charge(event, outcome, now_s)
        if meter.shared:
            self._late.append(_Late(meter, event.kind, event.name, product))
        self.log.add(event.kind, event.name, detail, outcome, int(meter.cpu_s * 1e6), wall_ms, error)

    def _charge(self, event: EventContext, outcome: Outcome, now_s: float) -> None:
        """Charge what the event has used since it was charged last; as one that has this outcome."""
        meter, before = event.meter, event.charged_as
        product = _WORKER if event.actor is None else event.actor.address.kind
        cpu_s = meter.cpu_s
        if before is not None and before is not outcome:
            self._ledger.charge_event((product, event.kind, event.name, before), -1, 0.0, 0.0)
        self._ledger.charge_event(
            (product, event.kind, event.name, outcome),
            0 if before is outcome else 1,
            cpu_s - meter.charged_s,
            now_s - meter.charged_until_s,
            meter.quantities,
        )
        event.charged_as = outcome
        meter.was_charged(cpu_s, failed=outcome is not _OK)
        meter.charged_until_s = now_s
        show_part_charged(meter)
        if meter.shared:
            show_charged_in_threads()
        if meter.quantities:
            meter.quantities.clear()

    def charge_late(self) -> None:
        """Charge what tasks and threads of the script used that have outlived their events, and how long objects have
        been active whose events are still open. For before each flush."""
        self._activity.charge(monotonic())
        late, self._late = self._late, []
        for ended in late:
            meter = ended.meter
            used_s = meter.cpu_s - meter.charged_s
            if used_s:
                self._ledger.charge_event((ended.product, ended.kind, ended.name, _OK), 0, used_s, 0.0)
                meter.was_charged(meter.charged_s + used_s, failed=meter.shown_s < 0)
            # Whoever might charge it still holds it.
            if sys.getrefcount(meter) > _OUR_REFERENCES:
                self._late.append(ended)

    def charge_lost(self, used: ChargeLost) -> None:
        """Charge and log an event of another process, which could not do it."""
        self._ledger.charge(
            used.kind,
            used.name,
            used.cpu_ns,
            used.wall_ms,
            used.outcome,
            product=used.product,
            events=0 if used.failed else 1,
        )
        if used.counted and not used.failed:
            self._ledger.charge_event((used.product, used.kind, used.name, _OK), -1, 0.0, 0.0)
        if used.outcome != Outcome.OK:
            self.log.add(used.kind, used.name, "", used.outcome, used.cpu_ns // 1000, used.wall_ms, "")

    async def wait_none_open(self) -> None:
        """Return when no event is in progress, background work included."""
        while self.open:
            self._none_open = trio.Event()
            await self._none_open.wait()
            self._none_open = None

    async def wait_answered(self) -> None:
        """Return when no client waits for the head of an answer."""
        while self._unanswered:
            self._none_unanswered = trio.Event()
            await self._none_unanswered.wait()
            self._none_unanswered = None
