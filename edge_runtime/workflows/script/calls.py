"""What the script gives to be called: a step's callback and what it is called with, and whether that blocks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import msgspec

from edge_runtime.actors.api import ActorContext
from edge_runtime.workers.conversion import from_wire
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workflows.core.effects import AskDelay, StartAttempt, Undo, Value
from edge_runtime.workflows.script.config import DelayFunction
from edge_runtime.workflows.script.errors import error_of
from edge_runtime.workflows.script.results import value_of


class Call(msgspec.Struct, frozen=True):
    """What the script gave to `step.do`. `run` is called with a function that makes the step's ctx, and may be sync or
    async."""

    run: Callable[[Callable[[], Any]], Any]
    blocking: bool
    """A plain function: it runs in a thread."""
    delay: DelayFunction | None
    shown_config: Mapping[str, Any]
    undo: Call | None = None
    """The step's rollback handler."""
    transactional: bool = False
    """What it writes through bindings is committed with its result."""


def is_blocking(function: Callable[..., Any]) -> bool:
    """Whether a callback goes to a thread: plain functions do. A lambda does not: it is how one passes an argument to
    an async function or to a binding."""
    if isinstance(function, FunctionType):
        if function.__code__.co_flags & inspect.CO_COROUTINE:
            return False
    elif inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return False
    return getattr(function, "__name__", "") != "<lambda>"


def call_plain(function: Callable[..., Any], make_ctx: Callable[[], Any]) -> Any:
    """Call with the step's ctx a function that asks for it: by that name, or with a parameter that has no default.

    A parameter with a default is left alone: `lambda item=item: ...` is how loops bind their variable.
    """
    code = getattr(function, "__code__", None)
    if code is not None and not code.co_argcount and not code.co_kwonlyargcount:
        return function()
    if code is None:
        parameters = _parameters(function)
        if "ctx" in parameters:
            return function(ctx=make_ctx())
        return function(make_ctx()) if any(needed for needed in parameters.values()) else function()
    given = 1 if inspect.ismethod(function) else 0
    if "ctx" in code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]:
        return function(ctx=make_ctx())
    needed = code.co_argcount - given - len(getattr(function, "__defaults__", None) or ())
    return function(make_ctx()) if needed > 0 else function()


def _parameters(function: Callable[..., Any]) -> dict[str, bool]:
    """The positional parameters of a callable that is no plain function, and whether each needs a value."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {
        parameter.name: parameter.default is parameter.empty
        for parameter in found
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def ctx_of(call: Call, effect: StartAttempt | AskDelay, context: ActorContext) -> Any:
    if isinstance(effect, StartAttempt) and effect.undo is not None:
        return _undo_ctx(call, effect.undo, context)
    key = effect.key
    return from_wire(
        {"step": {"name": key.name, "count": key.occurrence}, "attempt": effect.attempt, "config": call.shown_config}
    )


def _undo_ctx(call: Call, undo: Undo, context: ActorContext) -> Any:
    """What a rollback handler is given: the step as it was, its result, and why it is undone."""
    key, result = undo.key, undo.result
    step = {"name": key.name, "count": key.occurrence}
    return JsDict(
        ctx=from_wire({"step": step, "attempt": undo.attempt, "config": call.shown_config}),
        error=error_of(undo.error),
        output=value_of(result, key, context) if isinstance(result, Value) else None,
        stepName=f"{key.name}-{key.occurrence}",
    )
