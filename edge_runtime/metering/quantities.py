"""What is counted of an event besides its CPU and wall time: the names under which meter, ledger and tariffs know it.

Plain strings, since they are looked up at every operation. Sizes are bytes.
"""

from __future__ import annotations

from typing import Final

SUBREQUESTS: Final = "subrequests"  # fetches, calls of other workers and of objects
BYTES_IN: Final = "bytes_in"  # bodies of requests that came from clients
BYTES_OUT: Final = "bytes_out"  # bodies of answers to clients
WEBSOCKET_BYTES_IN: Final = "websocket_bytes_in"  # messages that were delivered; text as UTF-8
WEBSOCKET_BYTES_OUT: Final = "websocket_bytes_out"  # messages that were sent

KV_READS: Final = "kv_reads"  # keys, found or not
KV_WRITES: Final = "kv_writes"
KV_DELETES: Final = "kv_deletes"
KV_LISTS: Final = "kv_lists"  # pages

ROWS_READ: Final = "rows_read"  # of objects: keys looked up, or listed; an operation reads at least one
ACTIVE_US: Final = "active_us"  # of objects: while at least one event is open; events at the same time count once
ROWS_WRITTEN: Final = "rows_written"  # of objects: keys put or deleted, and the alarm

EXECUTIONS: Final = "executions"  # instances of workflows that began
STEPS: Final = "steps"  # steps that began; those a condition left out do not count
STEP_RETRIES: Final = "step_retries"  # attempts that failed and are repeated
SLEEPS: Final = "sleeps"  # of workflows, begun
WAITS: Final = "waits"  # of workflows for an event, begun

BYTES_PERSISTED: Final = (
    "bytes_persisted"  # keys and values of KV and objects; parameters, results, errors of workflows
)

QUANTITIES: Final = (
    SUBREQUESTS,
    BYTES_IN,
    BYTES_OUT,
    WEBSOCKET_BYTES_IN,
    WEBSOCKET_BYTES_OUT,
    KV_READS,
    KV_WRITES,
    KV_DELETES,
    KV_LISTS,
    ROWS_READ,
    ROWS_WRITTEN,
    ACTIVE_US,
    EXECUTIONS,
    STEPS,
    STEP_RETRIES,
    SLEEPS,
    WAITS,
    BYTES_PERSISTED,
)
"""In the order in which they are shown."""
