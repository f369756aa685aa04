"""Decorated steps: what `@step.do(...)` makes of a function, and the steps it depends on.

Dependencies are steps too. Each runs once in an activation however many depend on it: a result that is there is taken,
a run in flight is shared. Calling a decorated step directly always makes a new occurrence.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_runtime.event import require_event
from edge_runtime.promise import Promise
from edge_runtime.workflows.script.branches import current_path


class Ctx:
    """Stands for the step's context among the arguments until an attempt has one."""


CTX = Ctx()
Plan = list["DecoratedStep | Ctx"]


class DecoratedStep:
    """A function declared as a step; calling it runs the step and returns a Promise of the result."""

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        plan: Callable[[], Plan],
        concurrent: bool,
        blocking: bool,
        path: tuple[str, ...],
        reserve: Callable[[tuple[str, ...]], tuple[Any, int, bool]],
        run: Callable[..., Promise[Any]],
    ) -> None:
        self.name = name
        self._function = function
        self._plan = plan
        self._concurrent = concurrent
        self._blocking = blocking
        self._path = path
        self._reserve = reserve
        self._run = run
        self._latest: Promise[Any] | None = None
        self.__name__ = getattr(function, "__name__", name)
        self.__doc__ = function.__doc__
        self.__wrapped__ = function

    def __call__(self) -> Promise[Any]:
        return self._call(current_path())

    def _call(self, path: tuple[str, ...]) -> Promise[Any]:
        event = require_event("step")
        try:
            plan = self._plan()
            self._refuse_cycle()
            reserved = self._reserve(path)
            needed = reserved[2] and any(isinstance(item, DecoratedStep) for item in plan)
            promise = event.spawn(self._run_after, plan, reserved) if needed else self._begin(plan, reserved)
        except Exception as error:
            return Promise.rejected(error)
        self._latest = promise
        return promise

    def result(self) -> Promise[Any]:
        """The result for a step that depends on this one."""
        latest = self._latest
        if latest is None or (latest.settled and latest.error is not None):
            # Whichever branch needs it first: the step belongs to the context that declared it.
            return self._call(self._path)
        return latest

    def _refuse_cycle(self) -> None:
        """TypeError if this step depends on itself, by whatever way: it would wait for ever."""
        left: list[tuple[DecoratedStep, tuple[str, ...]]] = [(self, (self.name,))]
        seen: set[DecoratedStep] = set()
        while left:
            step, way = left.pop()
            for item in step._plan():
                if item is self:
                    raise TypeError(f"step {self.name!r} depends on itself: {' -> '.join((*way, self.name))}")
                if isinstance(item, DecoratedStep) and item not in seen:
                    seen.add(item)
                    left.append((item, (*way, item.name)))

    async def _run_after(self, plan: Plan, reserved: tuple[Any, int, bool]) -> Any:
        values: dict[int, Any] = {}
        if self._concurrent:
            begun = {at: item.result() for at, item in enumerate(plan) if isinstance(item, DecoratedStep)}
            await _all(list(begun.values()))
            values = {at: promise.result() for at, promise in begun.items()}
        else:
            for at, item in enumerate(plan):
                if isinstance(item, DecoratedStep):
                    values[at] = await item.result()
        return await self._begin(plan, reserved, values)

    def _begin(
        self, plan: Plan, reserved: tuple[Any, int, bool], values: Mapping[int, Any] | None = None
    ) -> Promise[Any]:
        found = values or {}

        def call(make_ctx: Callable[[], Any]) -> Any:
            return self._function(*(make_ctx() if item is CTX else found[at] for at, item in enumerate(plan)))

        return self._run(reserved, call, self._blocking)


def parameter_plan(
    function: Callable[..., Any],
    depends: Sequence[DecoratedStep] | None,
    declared: Mapping[str, DecoratedStep] | None,
) -> Plan:
    """What goes to each parameter. With `declared` (implicit dependencies) parameters are named after steps; without,
    `depends` gives them in order. TypeError as Cloudflare's SDK has it."""
    names = list(inspect.signature(function).parameters)
    if declared is not None:
        return [_implicit(name, declared) for name in names]
    count = sum(name != "ctx" for name in names)
    if depends is None and count:
        raise TypeError(f"Step has {count} non-ctx parameter(s) but no 'depends' list provided")
    if depends is not None and len(depends) != count:
        raise TypeError(f"Step declares {count} non-ctx parameter(s) but 'depends' has {len(depends)} item(s)")
    rest = iter(depends or ())
    plan: Plan = []
    for name in names:
        item = CTX if name == "ctx" else next(rest)
        if not isinstance(item, DecoratedStep | Ctx):
            raise TypeError(f"'depends' takes functions declared with step.do, found {type(item).__name__}")
        plan.append(item)
    return plan


def _implicit(name: str, declared: Mapping[str, DecoratedStep]) -> DecoratedStep | Ctx:
    if name in declared:
        return declared[name]
    if name == "ctx":
        return CTX
    raise TypeError(f"Received unexpected parameter {name}")


def _all(promises: Sequence[Promise[Any]]) -> Promise[None]:
    """Resolves when all have resolved; rejects when the first of them does. Those that are left go on."""
    joined: Promise[None] = Promise()
    left = len(promises)

    def settled(promise: Promise[Any]) -> None:
        nonlocal left
        left -= 1
        if joined.settled:
            return
        if promise.error is not None:
            joined.reject(promise.error)
        elif not left:
            joined.resolve(None)

    for promise in promises:
        promise.add_done_callback(settled)
    return joined
