"""What a script gets for a step's recorded result."""

from __future__ import annotations

from typing import Final

from edge_runtime.actors.api import ActorContext
from edge_runtime.workers.conversion import from_wire
from edge_runtime.workflows.core.effects import Error, Received, Result, Value
from edge_runtime.workflows.core.journal import StepKey
from edge_runtime.workflows.core.kept_stream import MARK, KeptStream
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.script.errors import error_of
from edge_runtime.workflows.stored.instances import home_of
from edge_runtime.workflows.stored.streams import open_kept

_STREAM: Final = MARK[0]


def value_of(result: Result, key: StepKey, context: ActorContext) -> object:
    """Raises the error of a step that failed."""
    match result:
        case Value(encoded):
            if not encoded:
                return None
            if encoded[0] == _STREAM:
                return open_kept(context.store, home_of(context.address), key, KeptStream.decode(encoded))
            return payloads.decode(encoded)
        case Received(event_type, payload, sent_ms):
            return received_event(event_type, payload, sent_ms)
        case Error(record):
            raise error_of(record)


def received_event(event_type: str, payload: bytes, sent_ms: int) -> object:
    """What `wait_for_event` returns."""
    return from_wire(
        {"payload": payloads.decode_plain(payload), "timestamp": payloads.instant(sent_ms), "type": event_type}
    )
