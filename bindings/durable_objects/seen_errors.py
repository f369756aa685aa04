"""The errors of an object's code as its callers see them."""

from __future__ import annotations

from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.rpc import remote_error
from edge_runtime.workers.workflows import NonRetryableError


def seen_by_caller(error: BaseException) -> Exception:
    """The error as callers get it: TypeError, ValueError and NonRetryableError keep their class, of any other only the
    message arrives (another object's reset included: this object was not reset). `remote` says where it came from."""
    if isinstance(error, (TypeError, ValueError, NonRetryableError, JsException)):
        return remote_error(error)
    seen = Exception(str(error) or type(error).__name__)
    seen.__dict__["remote"] = True
    return seen
