"""What a script gets for a step's recorded result."""

from __future__ import annotations

from edge_runtime.workers.conversion import from_wire
from edge_runtime.workflows import payloads
from edge_runtime.workflows.effects import Error, Received, Result, Value
from edge_runtime.workflows.errors import error_of


def value_of(result: Result) -> object:
    """Raises the error of a step that failed."""
    match result:
        case Value(encoded):
            return payloads.decode(encoded) if encoded else None
        case Received(event_type, payload, sent_ms):
            return received_event(event_type, payload, sent_ms)
        case Error(record):
            raise error_of(record)


def received_event(event_type: str, payload: bytes, sent_ms: int) -> object:
    """What `wait_for_event` returns."""
    return from_wire(
        {"payload": payloads.decode_plain(payload), "timestamp": payloads.instant(sent_ms), "type": event_type}
    )
