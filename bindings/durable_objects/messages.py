"""What travels from a stub to an object. Arguments are in plain form (`conversion.to_wire`), copied at the call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_runtime.workers.request import Request


@dataclass(frozen=True, slots=True)
class RpcCall:
    method: str
    args: list[Any]


@dataclass(frozen=True, slots=True)
class FetchCall:
    request: Request
    """Passed by reference: its body is streamed."""
