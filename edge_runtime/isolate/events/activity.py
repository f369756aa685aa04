"""How long objects are active: what Cloudflare bills by the GB-second.

An object is active from the beginning of an event until no event of it is open any more, `waitUntil` work and plainly
accepted WebSockets included. Events at the same time count once; an object that only waits to be evicted is not active.
"""

from __future__ import annotations

from typing import Any

from edge_runtime.event import EventContext
from edge_runtime.metering.ledger import Ledger, Product
from edge_runtime.metering.quantities import ACTIVE_US


class _Span:
    __slots__ = ("kind", "name", "open", "since_s")

    def __init__(self, event: EventContext) -> None:
        self.kind = event.kind
        self.name = event.name
        self.open = 1
        self.since_s = event.meter.started_s


class ObjectActivity:
    """The spans of one isolate's objects. Each is charged to the handler whose event began it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._spans: dict[Any, _Span] = {}

    def begin(self, event: EventContext) -> None:
        """An event of an object begins."""
        span = self._spans.get(event.actor)
        if span is None:
            self._spans[event.actor] = _Span(event)
        else:
            span.open += 1

    def end(self, event: EventContext, now_s: float) -> None:
        """An event has ended, before it is charged."""
        span = self._spans[event.actor]
        span.open -= 1
        if not span.open:
            del self._spans[event.actor]
            active_us = int((now_s - span.since_s) * 1e6)
            if span.name == event.name and span.kind == event.kind:
                event.meter.quantities[ACTIVE_US] += active_us
            else:
                self._charge(span, active_us)

    def charge(self, now_s: float) -> None:
        """Charge what objects that are still active have been so far."""
        for span in self._spans.values():
            active_us = int((now_s - span.since_s) * 1e6)
            span.since_s += active_us / 1e6
            self._charge(span, active_us)

    def _charge(self, span: _Span, active_us: int) -> None:
        self._ledger.charge(
            span.kind, span.name, 0, 0.0, "ok", {ACTIVE_US: active_us}, product=Product.OBJECT, events=0
        )
