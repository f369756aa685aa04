"""Errors that scripts see around workflows, and how an error is stored and made again.

A step's error reaches `run` in the same shape the first time and at replay, because both times it is made from its
record: Python's own exceptions and NonRetryableError keep their class, every other error is a JsException that carries
the name and the message of the original, as with Cloudflare's SDK.
"""

from __future__ import annotations

import builtins
import math
from datetime import timedelta
from typing import Final

from edge_runtime.limits import ERROR_TEXT_MAX
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.workflows import NonRetryableError

FATAL: Final = "WorkflowFatalError"
INTERNAL: Final = "WorkflowInternalError"
DRIFT: Final = "NondeterminismError"
TIMEOUT: Final = "WorkflowTimeoutError"
_NON_RETRYABLE: Final = "NonRetryableError"
_KEPT: Final[dict[str, type[Exception]]] = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)
} | {_NON_RETRYABLE: NonRetryableError}


class WorkflowError(JsException):
    """A refused call on a workflow's binding or an instance. `code` is Cloudflare's, such as "instance.not_found"."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(f"({code}) {text}", "WorkflowError")


def fatal(text: str) -> JsException:
    """The script uses the workflow API wrongly."""
    return JsException(text, FATAL)


def record_of(error: BaseException) -> ErrorRecord:
    """What is stored of an error that a script raised: a long text cut at its end, a long traceback at its start."""
    record = ErrorRecord.of(error, with_traceback=True)
    name, message = record.name, record.message
    if isinstance(error, JsException):
        name, message = error.name, error.message
    elif isinstance(error, KeyError) and len(error.args) == 1:
        # The text of a KeyError is the repr of its key; made again from that it would be quoted twice.
        message = str(error.args[0])
    return ErrorRecord(
        _writable(name), _writable(message[:ERROR_TEXT_MAX]), _writable(record.traceback[-ERROR_TEXT_MAX:])
    )


def _writable(text: str) -> str:
    """With lone surrogates, as names of files may have them, spelled out."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def error_of(record: ErrorRecord) -> Exception:
    """The error that `run` sees."""
    kind = _KEPT.get(record.name)
    if kind is not None:
        try:
            return kind(record.message)
        except TypeError:
            # A few classes, such as UnicodeDecodeError, are not made from a text alone.
            return JsException(record.message, record.name)
    return JsException(record.message, record.name)


def retry_after_ms(error: BaseException) -> int | None:
    """What `retry_after` of an error says, as several SDKs have it: seconds, also as text, or a timedelta."""
    given = getattr(error, "retry_after", None)
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    try:
        wanted = float(seconds)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return math.ceil(wanted * 1000) if 0 <= wanted < math.inf else None


def is_non_retryable(error: BaseException) -> bool:
    """Cloudflare's rule: by class or name, or by how the message begins."""
    if isinstance(error, NonRetryableError):
        return True
    names = {kind.__name__ for kind in type(error).__mro__} | {getattr(error, "name", None)}
    return _NON_RETRYABLE in names or str(error).startswith(_NON_RETRYABLE)
