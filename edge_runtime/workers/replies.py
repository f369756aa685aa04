"""The result of a script's method or `fetch`, in the form in which it travels."""

from __future__ import annotations

from typing import Any

from edge_runtime.event import EventContext, current_event
from edge_runtime.workers.conversion import to_wire_result
from edge_runtime.workers.response import FetchResponse, JsResponse, Response


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
