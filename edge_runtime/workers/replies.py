"""What a caller gets of a script's method or `fetch`: its result or its error, in the form in which they travel."""

from __future__ import annotations

from typing import Any

from edge_runtime.event import EventContext, current_event
from edge_runtime.workers.conversion import to_wire_result
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.js_views import JsResponse
from edge_runtime.workers.response import FetchResponse, Response
from edge_runtime.workers.rpc import remote_error
from edge_runtime.workers.workflows import NonRetryableError


def plain_result(event: EventContext, result: object) -> Any:
    """The result in plain form; what is in it by reference is lent by `event`."""
    token = current_event.set(event)
    try:
        return to_wire_result(result)
    finally:
        current_event.reset(token)


def checked_response(class_name: str, result: object) -> FetchResponse:
    """What `fetch` of the class returned, if that is a response; else TypeError."""
    if isinstance(result, JsResponse):
        return Response(result)
    if not isinstance(result, FetchResponse):
        raise TypeError(
            f"{class_name}.fetch() returned {type(result).__name__}; allowed: a workers.Response "
            "(was a return missing?)"
        )
    return result


def seen_by_caller(error: BaseException) -> Exception:
    """The error as callers of an object get it: TypeError, ValueError and NonRetryableError keep their class, of any
    other only the message arrives (another object's reset included: this object was not reset). `remote` says where it
    came from."""
    if isinstance(error, (TypeError, ValueError, NonRetryableError, JsException)):
        return remote_error(error)
    seen = Exception(str(error) or type(error).__name__)
    seen.__dict__["remote"] = True
    return seen
