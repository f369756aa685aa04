"""Rows of the ledger with only what a test is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from edge_runtime.metering.ledger import Product, UsageRow


def row(
    kind: str = "fetch",
    *,
    product: str = Product.WORKER,
    worker: str = "shop",
    name: str = "Default.fetch",
    at: str = "2026-11-05T10:00",
    events: int = 0,
    cpu_us: int = 0,
    wall_ms: float = 0,
    **quantities: int,
) -> UsageRow:
    hour_ms = int(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() * 1000)
    given: dict[str, Any] = {"events": events, "cpu_us": cpu_us, "wall_ms": wall_ms, "quantities": quantities}
    return UsageRow(worker=worker, version="v1", product=product, kind=kind, name=name, hour_ms=hour_ms, **given)
