"""What a workflow's journal counts as on the bill."""

from __future__ import annotations

from collections import defaultdict

from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.durable_operations import count_end, count_entry, count_start
from edge_runtime.workflows.core.journal import (
    AttemptFailed,
    AttemptStarted,
    Created,
    Entry,
    EventReceived,
    StepFailed,
    StepKey,
    StepKind,
    StepStarted,
    StepSucceeded,
)
from edge_runtime.workflows.core.kept_stream import KeptStream

WRONG = ErrorRecord("ValueError", "wrong!")
ERROR_BYTES = len("ValueError" + "wrong!")


def started(name: str, kind: StepKind, *, skipped: bool = False) -> StepStarted:
    key = StepKey((), name, 1)
    return StepStarted(seq=1, at_ms=0, key=key, step=kind, position=1, fingerprint="", skipped=skipped)


def counted(*entries: Entry) -> dict[str, int]:
    quantities: defaultdict[str, int] = defaultdict(int)
    for entry in entries:
        count_entry(quantities, entry)
    return {name: amount for name, amount in quantities.items() if amount}


def test_step_counts_once_and_once_more_for_each_retry_with_every_payload() -> None:
    key = StepKey((), "charge", 1)
    failed = AttemptFailed(seq=2, at_ms=0, key=key, attempt=1, error=WRONG, retry_at_ms=1)
    again = AttemptStarted(seq=3, at_ms=0, key=key, attempt=2)
    done = StepSucceeded(seq=6, at_ms=0, key=key, value=b"12345")
    assert counted(started("charge", StepKind.DO), failed, again, failed, again, done) == {
        "steps": 1,
        "step_retries": 2,
        "bytes_persisted": 2 * ERROR_BYTES + 5,
    }


def test_stream_that_a_step_returned_counts_with_its_bytes() -> None:
    kept = StepSucceeded(seq=2, at_ms=0, key=StepKey((), "fetch", 1), value=KeptStream(5_000_000, 20).encode())
    assert counted(started("fetch", StepKind.DO), kept) == {"steps": 1, "bytes_persisted": 5_000_000}


def test_sleeps_and_waits_count_when_they_begin_and_not_when_they_end() -> None:
    nap, mail = StepKey((), "nap", 1), StepKey((), "mail", 1)
    assert counted(
        started("nap", StepKind.SLEEP),
        StepSucceeded(seq=2, at_ms=0, key=nap),
        started("until", StepKind.SLEEP_UNTIL),
        started("mail", StepKind.WAIT),
        EventReceived(seq=5, at_ms=0, key=mail, event_type="mail", payload=b"123", sent_ms=0),
    ) == {"sleeps": 2, "waits": 1, "bytes_persisted": 3}


def test_step_that_its_condition_left_out_costs_nothing() -> None:
    assert counted(started("maybe", StepKind.DO, skipped=True)) == {}


def test_step_that_fails_for_good_keeps_its_error() -> None:
    failed = StepFailed(seq=2, at_ms=0, key=StepKey((), "charge", 1), error=WRONG)
    assert counted(started("charge", StepKind.DO), failed) == {"steps": 1, "bytes_persisted": ERROR_BYTES}


def test_execution_counts_when_it_begins_and_keeps_parameters_and_output() -> None:
    quantities: defaultdict[str, int] = defaultdict(int)
    count_start(quantities, Created(seq=1, at_ms=0, params=b"123"))
    count_end(quantities, b"4567", None)
    assert quantities == {"executions": 1, "bytes_persisted": 7}
    count_end(quantities, None, WRONG)
    assert quantities == {"executions": 1, "bytes_persisted": 7 + ERROR_BYTES}
