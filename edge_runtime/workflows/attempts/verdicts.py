"""What the end of an attempt, or of a question for a delay, tells the engine."""

from __future__ import annotations

from typing import Any

from edge_runtime.config.durations import parse_duration_ms
from edge_runtime.limits import RETRY_DELAY_ANSWER_MS, STEP_RESULT_MAX
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.effects import (
    AskDelay,
    AttemptRaised,
    AttemptSucceeded,
    DelayComputed,
    Input,
    RunRaised,
    StartAttempt,
)
from edge_runtime.workflows.core.journal import StepKey
from edge_runtime.workflows.core.kept_stream import KeptStream
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.script.errors import FATAL, INTERNAL, TIMEOUT, is_non_retryable, record_of, retry_after_ms
from edge_runtime.workflows.stored.streams import StreamRefused


class DelayRefused(Exception):
    """A delay function gives no delay: how the sentence about it ends."""


def judge(
    effect: StartAttempt, result: Any, error: BaseException | None, cpu_us: int, *, timed_out: bool
) -> tuple[Input, str]:
    """The engine's input and the error's text for the log."""
    key, attempt = effect.key, effect.attempt
    if timed_out:
        record = ErrorRecord(TIMEOUT, f"Execution timed out after {effect.config.timeout_ms}ms")
        return AttemptRaised(key, attempt, record, cpu_us=cpu_us), record.message
    if isinstance(error, StreamRefused):
        text = _terminated(key, f"an invalid ReadableStream output. {error}")
        return RunRaised(ErrorRecord(FATAL, text), rollback=False), text
    if error is not None:
        record = record_of(error)
        after_ms = retry_after_ms(error)
        raised = AttemptRaised(key, attempt, record, not is_non_retryable(error), cpu_us, after_ms)
        return raised, record.traceback or record.message
    if effect.undo is not None:
        return AttemptSucceeded(key, attempt, b"", cpu_us), ""
    if isinstance(result, KeptStream):
        return AttemptSucceeded(key, attempt, result.encode(), cpu_us), ""
    try:
        encoded = payloads.encode_result(result)
    except Exception as refusal:
        text = _terminated(key, f"a value which is not serialisable: {refusal}")
        return RunRaised(ErrorRecord(FATAL, text), rollback=False), text
    if len(encoded) > STEP_RESULT_MAX:
        text = f"Step {key} output is too large. Maximum allowed size is 1MiB."
        return AttemptRaised(key, attempt, ErrorRecord(INTERNAL, text), retryable=False, cpu_us=cpu_us), text
    return AttemptSucceeded(key, attempt, encoded, cpu_us), ""


def _terminated(key: StepKey, returned: str) -> str:
    return f'The execution of the Workflow instance was terminated, as the step "{key.name}" returned {returned}'


def read_delay(answer: object) -> int:
    """What a delay function gave, in milliseconds. Raises DelayRefused."""
    try:
        return parse_duration_ms(answer)
    except (TypeError, ValueError) as error:
        text = 'returned an invalid delay value (expected a number of ms or a duration string like "30 seconds")'
        raise DelayRefused(f"{text}: {error}") from error


def judge_delay(effect: AskDelay, result: Any, error: BaseException | None, *, timed_out: bool) -> tuple[Input, str]:
    """The delay, or the failure of the step, which is Cloudflare's rule where there is no usable answer."""
    key, attempt = effect.key, effect.attempt
    if timed_out:
        reason = f"did not return within {RETRY_DELAY_ANSWER_MS // 1000} seconds"
    elif isinstance(error, DelayRefused):
        reason = str(error)
    elif error is not None:
        reason = f"threw an error: {record_of(error).message or type(error).__name__}"
    else:
        return DelayComputed(key, attempt, result), ""
    text = f'The delay function for step "{key}" {reason}'
    return DelayComputed(key, attempt, 0, ErrorRecord("NonRetryableDelayError", text)), text
