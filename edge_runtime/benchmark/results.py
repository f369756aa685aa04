"""What was measured of a subject: its rounds, what they come to per operation, and how two subjects compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_runtime.benchmark.figures import Comparison, Spread, compare, spread
from edge_runtime.benchmark.processes import Memory
from edge_runtime.benchmark.server import Event
from edge_runtime.metering.bill import make_bill, money_text
from edge_runtime.metering.grouping import sum_rows
from edge_runtime.metering.ledger import UsageRow
from edge_runtime.metering.tariff import load_tariff, shipped


@dataclass(frozen=True, slots=True)
class Round:
    events: Sequence[Event]
    latencies_ms: Sequence[float]
    elapsed_s: float
    isolate_us: float
    supervisor_us: float
    kernel_share: float
    commits: int

    def operations(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.events)


@dataclass(frozen=True, slots=True)
class HandlerFigures:
    kind: str
    handler: str
    per_operation: float
    cpu_us: Spread
    wall_ms: Spread


@dataclass(frozen=True, slots=True)
class Result:
    """What one subject used; per operation unless it says otherwise.

    `user_us` are the meter's figures (what is billed), of all events that an operation caused; `isolate_us` is the
    kernel's CPU time of the isolates, user code and runtime together; `supervisor_us` that of the server process.
    """

    label: str
    operations: int
    cpu_us: Spread
    """Of the script's own code, in events of the operation's own kind."""
    latency_ms: Spread
    """As the client saw it: of a request, or of an instance from its creation to its end."""
    per_second: float
    user_us: float
    isolate_us: float
    supervisor_us: float
    kernel_share: float
    """The part of the isolates' CPU time that was spent in the kernel, 0 to 1."""
    commits: float
    peak_mb: float
    """The most memory that one isolate had resident at once."""
    private_mb: float
    quantities: dict[str, float]
    million_at_list_price: dict[str, str]
    """What a million operations cost by each shipped tariff, in its currency, allotments and fees left out."""
    handlers: tuple[HandlerFigures, ...]
    round_user_us: tuple[float, ...]
    round_isolate_us: tuple[float, ...]
    failed: int = field(default=0)
    """Events of all rounds whose outcome was not "ok"."""

    @property
    def kernel_us(self) -> float:
        """Of the isolates' CPU time what was spent in the kernel, to the 10 ms of a round that the kernel tells."""
        return self.isolate_us * self.kernel_share

    @property
    def runtime_us(self) -> float:
        """Of the isolates' CPU time what is neither the script's nor the kernel's: HTTP, codec, store, event loop."""
        return max(0.0, self.isolate_us - self.user_us - self.kernel_us)


@dataclass(frozen=True, slots=True)
class Comparisons:
    user_us: Comparison
    isolate_us: Comparison


def result_of(
    label: str,
    kind: str,
    rounds: Sequence[Round],
    *,
    usage: list[UsageRow],
    memories: Sequence[Memory],
    sent: int,
) -> Result:
    """What the rounds came to; their operations led to events of `kind`.

    `usage` and `memories` are the ledger's rows and the isolates' of all `sent` operations, the warm-up's included.
    """
    events = [event for measured in rounds for event in measured.events]
    operations = sum(measured.operations(kind) for measured in rounds)
    return Result(
        label=label,
        operations=operations,
        cpu_us=spread([event.cpu_us for event in events if event.kind == kind]),
        latency_ms=spread([took for measured in rounds for took in measured.latencies_ms]),
        per_second=operations / sum(measured.elapsed_s for measured in rounds),
        user_us=sum(event.cpu_us for event in events) / operations,
        isolate_us=sum(measured.isolate_us for measured in rounds) / operations,
        supervisor_us=sum(measured.supervisor_us for measured in rounds) / operations,
        kernel_share=sum(measured.kernel_share for measured in rounds) / len(rounds),
        commits=sum(measured.commits for measured in rounds) / operations,
        peak_mb=max(found.peak_mb for found in memories),
        private_mb=max(found.private_mb for found in memories),
        quantities={name: amount / sent for name, amount in _quantities(usage).items()},
        million_at_list_price={
            name: money_text(make_bill(load_tariff(name), usage).list_cost * 1_000_000 / sent) for name in shipped()
        },
        handlers=_handlers(events, operations),
        round_user_us=tuple(
            sum(event.cpu_us for event in measured.events) / measured.operations(kind) for measured in rounds
        ),
        round_isolate_us=tuple(measured.isolate_us / measured.operations(kind) for measured in rounds),
        failed=sum(event.outcome != "ok" for event in events),
    )


def _quantities(rows: list[UsageRow]) -> Mapping[str, int]:
    return sum_rows(rows).quantities if rows else {}


def _handlers(events: Sequence[Event], operations: int) -> tuple[HandlerFigures, ...]:
    grouped: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        grouped.setdefault((event.kind, event.handler), []).append(event)
    return tuple(
        HandlerFigures(
            kind,
            handler,
            len(found) / operations,
            spread([event.cpu_us for event in found]),
            spread([event.wall_ms for event in found]),
        )
        for (kind, handler), found in sorted(grouped.items())
    )


def compare_results(base: Result, candidate: Result) -> Comparisons:
    return Comparisons(
        user_us=compare(base.round_user_us, candidate.round_user_us),
        isolate_us=compare(base.round_isolate_us, candidate.round_isolate_us),
    )
