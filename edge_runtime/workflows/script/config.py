"""Reading what scripts give to steps: names, the `config` of `step.do`, durations, instants, event types.

Strict, as Cloudflare's engine is: an unknown key or a wrong value is a WorkflowFatalError for the script's author.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from edge_runtime.config.durations import parse_duration_ms
from edge_runtime.limits import (
    EVENT_TYPE_MAX,
    SLEEP_MAX_MS,
    STEP_NAME_MAX,
    STEP_RETRIES_DEFAULT,
    STEP_RETRY_DELAY_MS,
    STEP_TIMEOUT_MS,
)
from edge_runtime.workers.js_object import JsException
from edge_runtime.workflows.core.journal import Backoff, StepConfig
from edge_runtime.workflows.script.errors import fatal

_CONTROL: Final = re.compile(r"[\x00-\x1f]")
_EVENT_TYPE: Final = re.compile(rf"[a-zA-Z0-9_-]{{1,{EVENT_TYPE_MAX}}}")
_SHOWN: Final[Mapping[str, Any]] = {
    "retries": {"limit": STEP_RETRIES_DEFAULT, "delay": STEP_RETRY_DELAY_MS, "backoff": "exponential"},
    "timeout": "10 minutes",
}
DelayFunction = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class ReadConfig:
    config: StepConfig
    delay: DelayFunction | None
    """The script's function for the delay, where `config.delay_ms` is None."""
    shown: Mapping[str, Any]
    """As callbacks see it in `ctx`: what was given, merged with the defaults."""


_DEFAULT: Final = ReadConfig(
    StepConfig(STEP_RETRIES_DEFAULT, STEP_RETRY_DELAY_MS, Backoff.EXPONENTIAL, STEP_TIMEOUT_MS), None, _SHOWN
)


def read_step_name(name: object) -> str:
    if type(name) is str and 0 < len(name) <= STEP_NAME_MAX and name.isprintable():
        return name
    if not isinstance(name, str) or not 0 < len(name) <= STEP_NAME_MAX or _CONTROL.search(name):
        shown = name if isinstance(name, str) else repr(name)
        raise fatal(f'Step name "{shown}" exceeds max length ({STEP_NAME_MAX} chars) or invalid characters found')
    return name


def read_config(given: object) -> ReadConfig:
    """Validate a step's config and fill in the defaults."""
    if given is None:
        return _DEFAULT
    if not isinstance(given, Mapping):
        raise _wrong("config", given, "a dict")
    _check_keys("config", given, ("retries", "timeout", "sensitive"))
    retries_max: int | None = STEP_RETRIES_DEFAULT
    delay_ms: int | None = STEP_RETRY_DELAY_MS
    backoff = Backoff.EXPONENTIAL
    delay: DelayFunction | None = None
    shown: dict[str, Any] = {key: value for key, value in _SHOWN.items() if key not in given}
    retries = given.get("retries")
    if retries is not None:
        if not isinstance(retries, Mapping):
            raise _wrong("config.retries", retries, "a dict with limit, delay and backoff")
        _check_keys("config.retries", retries, ("limit", "delay", "backoff"), required=("limit", "delay"))
        retries_max = _read_limit(retries["limit"])
        delay_ms, delay = _read_delay(retries["delay"])
        backoff = _read_backoff(retries.get("backoff"))
        shown["retries"] = {"backoff": backoff.value} | {key: value for key, value in retries.items() if key != "delay"}
        if delay is None:
            shown["retries"]["delay"] = retries["delay"]
    else:
        shown["retries"] = dict(_SHOWN["retries"])
    timeout_ms = STEP_TIMEOUT_MS
    if given.get("timeout") is not None:
        timeout_ms = read_duration_ms("config.timeout", given["timeout"])
        if timeout_ms <= 0:
            raise _wrong("config.timeout", given["timeout"], "more than 0 milliseconds")
        shown["timeout"] = given["timeout"]
    else:
        shown["timeout"] = _SHOWN["timeout"]
    sensitive = given.get("sensitive")
    if sensitive not in (None, "output"):
        raise _wrong("config.sensitive", sensitive, '"output"')
    return ReadConfig(StepConfig(retries_max, delay_ms, backoff, timeout_ms, sensitive == "output"), delay, shown)


def read_duration_ms(place: str, value: object) -> int:
    """A duration of at most 365 days; a bare number is milliseconds."""
    try:
        duration_ms = parse_duration_ms(value)
    except (TypeError, ValueError) as error:
        raise fatal(f"{place}: {error}") from None
    if duration_ms > SLEEP_MAX_MS:
        raise _wrong(place, value, "at most 365 days")
    return duration_ms


def read_instant_ms(value: object) -> int:
    """Milliseconds since the epoch of a datetime (a naive one is local time), an ISO 8601 text or such a number."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise _wrong("sleep_until", value, "an instant in ISO 8601") from None
    if isinstance(value, datetime):
        # Rounded up: a sleep never ends before its instant.
        return -int(-value.timestamp() * 1000 // 1)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
        raise _wrong("sleep_until", value, "a datetime, milliseconds since the epoch, or text in ISO 8601")
    return int(value)


def read_event_type(value: object) -> str:
    if not isinstance(value, str) or not _EVENT_TYPE.fullmatch(value):
        raise _wrong("event type", value, f"1 to {EVENT_TYPE_MAX} letters, digits, hyphens and underscores")
    return value


def _read_limit(value: object) -> int | None:
    if value == float("inf"):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise _wrong("config.retries.limit", value, "a whole number from 0, or Infinity")
    return int(value)


def _read_delay(value: object) -> tuple[int | None, DelayFunction | None]:
    if callable(value):
        return None, value
    return read_duration_ms("config.retries.delay", value), None


def _read_backoff(value: object) -> Backoff:
    if value is None:
        return Backoff.EXPONENTIAL
    try:
        return Backoff(str(value))
    except ValueError:
        raise _wrong("config.retries.backoff", value, ", ".join(Backoff)) from None


def _check_keys(
    place: str, given: Mapping[Any, Any], known: tuple[str, ...], *, required: tuple[str, ...] = ()
) -> None:
    for key in given:
        if key not in known:
            raise fatal(f"{place}: found the unknown key {key!r}; allowed: {', '.join(known)}")
    for key in required:
        if key not in given:
            raise fatal(f"{place}: {key} is missing; allowed: {', '.join(known)}")


def _wrong(place: str, found: object, allowed: str) -> JsException:
    return fatal(f"{place}: found {found!r}; allowed: {allowed}")
