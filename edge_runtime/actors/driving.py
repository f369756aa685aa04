"""Running a coroutine in a context of its own without a task of its own."""

from __future__ import annotations

import contextvars
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def drive(
    work: Coroutine[Any, Any, T], context: contextvars.Context, on_suspended: Callable[[], None]
) -> Generator[Any, Any, T]:
    """Await `work` with `context` in force whenever it runs; call `on_suspended()` when it first gives up control."""
    run, send = context.run, work.send
    try:
        trap = run(send, None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    on_suspended()
    while True:
        try:
            sent = yield trap
        except BaseException as error:
            resume: Callable[[Any], Any] = work.throw
            value: Any = error
        else:
            resume, value = send, sent
        try:
            trap = run(resume, value)
        except StopIteration as stop:
            result = stop.value
            return result
