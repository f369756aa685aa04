"""The journal as JSON lines. Each line names the events of Cloudflare's engine that its entry stands for. Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Final, NamedTuple

import msgspec

from bindings.workflows.shown import error_json, iso, plain
from edge_runtime.errors import UsageError
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.control.describe import REDACTED
from edge_runtime.workflows.core.journal import (
    AttemptFailed,
    AttemptReleased,
    AttemptStarted,
    Created,
    Entry,
    EventReceived,
    Finished,
    RollbackEnded,
    RollbackStarted,
    StepFailed,
    StepKey,
    StepKind,
    StepStarted,
    StepSucceeded,
)
from edge_runtime.workflows.core.kept_stream import MARK, KeptStream
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.stored.instances import InstanceRecord, Status
from edge_runtime.workflows.stored.streams import KeptStreams

# Numbers of workflows-shared, instance.ts.
_NAMES: Final = {
    0: "WORKFLOW_QUEUED",
    1: "WORKFLOW_START",
    2: "WORKFLOW_SUCCESS",
    3: "WORKFLOW_FAILURE",
    4: "WORKFLOW_TERMINATED",
    5: "STEP_START",
    6: "STEP_SUCCESS",
    7: "STEP_FAILURE",
    8: "SLEEP_START",
    9: "SLEEP_COMPLETE",
    10: "ATTEMPT_START",
    11: "ATTEMPT_SUCCESS",
    12: "ATTEMPT_FAILURE",
    14: "WAIT_START",
    15: "WAIT_COMPLETE",
    16: "WAIT_TIMED_OUT",
    17: "ROLLBACK_START",
    18: "ROLLBACK_STEP_START",
    19: "ROLLBACK_ATTEMPT_START",
    20: "ROLLBACK_ATTEMPT_SUCCESS",
    21: "ROLLBACK_ATTEMPT_FAILURE",
    22: "ROLLBACK_STEP_SUCCESS",
    23: "ROLLBACK_STEP_FAILURE",
    24: "ROLLBACK_COMPLETE",
    25: "ROLLBACK_FAILED",
}
_SLEEPS: Final = (StepKind.SLEEP, StepKind.SLEEP_UNTIL)
_VALUES: Final = ("params", "value", "payload")


def lines(
    workflow: str,
    id: str,
    entries: list[Entry],
    record: InstanceRecord,
    streams: KeptStreams,
    *,
    raw: bool,
) -> list[dict[str, Any]]:
    """`raw`: with the entry as it is stored, and the pieces of a stream, for `read_back`."""
    kinds: dict[StepKey, StepKind] = {}
    sensitive: set[StepKey] = set()
    found = []
    for entry in entries:
        if isinstance(entry, StepStarted):
            kinds[entry.key] = entry.step
            if entry.config is not None and entry.config.sensitive:
                sensitive.add(entry.key)
        line = _line(entry, kinds, sensitive)
        if isinstance(entry, StepSucceeded) and entry.value[:1] == MARK:
            kept = KeptStream.decode(entry.value)
            if entry.key not in sensitive:
                line["value"] = streams.preview(entry.key, kept)
            if raw:
                line["stream"] = [b64encode(piece).decode() for piece in streams.pieces(entry.key, kept)]
        if isinstance(entry, Created):
            line |= {"workflow": workflow, "instance": id}
        if isinstance(entry, Finished):
            line |= _outcome(record)
        if raw:
            line["entry"] = b64encode(msgspec.msgpack.encode(entry)).decode()
        found.append(line)
    return found


class Exported(NamedTuple):
    """A journal that was exported with `--raw`."""

    workflow: str
    instance: str
    entries: list[Entry]
    output: Any
    """Of a finished instance, as JSON."""
    error: Any
    streams: dict[StepKey, list[bytes]]
    """The pieces of those that steps returned."""


def read_back(text: str) -> Exported:
    """The journal in exported lines. Raises UsageError."""
    entries: list[Entry] = []
    first: dict[str, Any] = {}
    last: dict[str, Any] = {}
    streams: dict[StepKey, list[bytes]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            last = msgspec.json.decode(line, type=dict[str, Any])
            entry = msgspec.msgpack.decode(b64decode(last["entry"]), type=Entry)
            if isinstance(entry, StepSucceeded) and "stream" in last:
                streams[entry.key] = [b64decode(piece) for piece in last["stream"]]
            entries.append(entry)
        except (msgspec.DecodeError, KeyError, ValueError, TypeError) as error:
            reason = "it has no entry as stored: export with --raw" if isinstance(error, KeyError) else str(error)
            raise UsageError(f"line {number} of the journal cannot be read: {reason}") from None
        first = first or last
    whole = [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    if not entries or not whole or not isinstance(entries[0], Created):
        raise UsageError("the journal is not whole: its entries are not numbered from 1 without gaps")
    workflow, instance = str(first.get("workflow", "")), str(first.get("instance", ""))
    return Exported(workflow, instance, entries, last.get("output"), last.get("error"), streams)


def _line(entry: Entry, kinds: dict[StepKey, StepKind], sensitive: set[StepKey]) -> dict[str, Any]:
    key: StepKey | None = getattr(entry, "key", None)
    line: dict[str, Any] = {
        "id": entry.seq,
        "timestamp": iso(entry.at_ms),
        "kind": entry.__struct_config__.tag,
        "events": [_NAMES[number] for number in _events(entry, kinds.get(key) if key is not None else None)],
        "target": None if key is None else str(key),
    }
    for name in entry.__struct_fields__:
        if name in ("seq", "at_ms", "key"):
            continue
        value = getattr(entry, name)
        if name in _VALUES and isinstance(value, bytes):
            value = REDACTED if key in sensitive and name == "value" else plain(payloads.decode_plain(value))
        elif isinstance(value, ErrorRecord):
            value = error_json(value)
        elif isinstance(value, StepKey):
            value = str(value)
        elif isinstance(value, msgspec.Struct):
            value = {field: getattr(value, field) for field in value.__struct_fields__}
        line[name] = value
    return line


def _outcome(record: InstanceRecord) -> dict[str, Any]:
    output = None if record.output is None else plain(payloads.decode_plain(record.output))
    return {"output": output, "error": error_json(record.error)}


def _events(entry: Entry, kind: StepKind | None) -> tuple[int, ...]:
    undo = kind is StepKind.ROLLBACK
    match entry:
        case Created():
            return (0, 1)
        case StepStarted():
            if kind in _SLEEPS:
                return (8,)
            if kind is StepKind.WAIT:
                return (14,)
            return (18, 19) if undo else (5,) if entry.skipped else (5, 10)
        case AttemptStarted():
            return (19 if undo else 10,)
        case AttemptFailed() | AttemptReleased():
            return (21 if undo else 12,)
        case StepSucceeded():
            return (9,) if kind in _SLEEPS else (20, 22) if undo else (11, 6)
        case EventReceived():
            return (15,)
        case StepFailed():
            return (16,) if kind is StepKind.WAIT else (21, 23) if undo else (12, 7)
        case RollbackStarted():
            return (17,)
        case RollbackEnded():
            return (24 if entry.completed == entry.total else 25,)
        case Finished():
            return ({Status.COMPLETE: 2, Status.ERRORED: 3, Status.TERMINATED: 4}[Status(entry.status)],)
        case _:
            return ()
