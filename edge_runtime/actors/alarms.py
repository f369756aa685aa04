"""The retry policy of alarms: pure, no clock and no randomness.

Source: workerd alarm-scheduler: 2 s doubled with each retry, up to a quarter more at random, six counted retries.
"""

from __future__ import annotations

from edge_runtime.limits import ALARM_BACKOFF_EXPONENT_MAX, ALARM_JITTER, ALARM_RETRIES_MAX, ALARM_RETRY_FIRST_MS


def retry_delay_ms(retries: int, fraction: float) -> int:
    """How long to wait after the failure of a run that was itself retry number `retries` (0: the first run).

    `fraction` is random, 0 <= fraction < 1.
    """
    delay_ms = ALARM_RETRY_FIRST_MS << min(retries, ALARM_BACKOFF_EXPONENT_MAX)
    return delay_ms + int(delay_ms * ALARM_JITTER * fraction)


def next_attempt(retries: int, now_ms: int, fraction: float) -> int | None:
    """When to run an alarm again that failed at `now_ms`; None when its retries are used up and it is dropped."""
    if retries >= ALARM_RETRIES_MAX:
        return None
    return now_ms + retry_delay_ms(retries, fraction)
