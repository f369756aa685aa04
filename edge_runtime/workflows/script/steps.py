"""`step`, as `run` gets it: Cloudflare's Python step API, with plain calls and conditions as ours.

Three forms of `step.do`, each with `rollback=` and `rollback_config=` where wanted:

    @step.do("name", depends=[other], concurrent=True, config={...})     scripts before 2026-02-25
    @step.do("name", concurrent=True, config={...})                      parameters name the steps to wait for
    await step.do("name", fn) / step.do("name", config, fn)              ours, after Cloudflare's JavaScript API

Decorated functions and plain calls return a Promise that has begun its work: gather them, start them in a nursery, or
await them one by one. Source: cloudflare/workers-py, runtime-sdk, workers/entrypoints.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol
from uuid import UUID

from edge_runtime.event import require_event
from edge_runtime.promise import Promise
from edge_runtime.seams import Randomness
from edge_runtime.store import values
from edge_runtime.workflows.core.effects import SleepRequested, StepRequested, ValueRequested, WaitRequested
from edge_runtime.workflows.core.journal import StepKey, StepKind
from edge_runtime.workflows.core.requests import Request
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.script.arguments import decorator_options, plain_arguments
from edge_runtime.workflows.script.branches import current_path
from edge_runtime.workflows.script.calls import Call, call_plain, is_blocking
from edge_runtime.workflows.script.config import (
    ReadConfig,
    read_config,
    read_duration_ms,
    read_event_type,
    read_instant_ms,
    read_step_name,
)
from edge_runtime.workflows.script.dependencies import DecoratedStep, parameter_plan
from edge_runtime.workflows.script.handlers import Handler

Condition = bool | Callable[[], object]
_DEFAULT_WAIT: Final = "24 hours"


class StepDriver(Protocol):
    """Whom the script's steps are asked for."""

    @property
    def now_ms(self) -> int: ...

    @property
    def random(self) -> Randomness: ...

    @property
    def reserve(self) -> Callable[[tuple[str, ...], str], tuple[StepKey, int]]:
        """Gives the key and the position of the next step of a name in a context. Called when the script calls the
        step, which may be before it is ready to be asked for."""

    def ask(self, request: Request, call: Call | None = None) -> Promise[object]:
        """The promise is settled already where the journal has the result."""


class WorkflowStep:
    """The steps of one activation; `implicit` chooses the signature of the decorator."""

    def __init__(self, driver: StepDriver, *, implicit: bool) -> None:
        self._driver = driver
        self._implicit = implicit
        self._declared: dict[str, DecoratedStep] = {}

    def do(
        self,
        name: Any = None,
        /,
        *args: Any,
        when: Condition = True,
        at_most_once: bool = False,
        rollback: Callable[..., Any] | None = None,
        rollback_config: object = None,
        **options: Any,
    ) -> Any:
        """Declare or run a step; its result is recorded once and returned at every replay.

        With a function among the arguments the step runs at once and a Promise of its result is returned; without one
        the result is a decorator. Without a name, the name of the function is taken.

        `when` (ours): a bool or a function without arguments that gives one. If false, the step is skipped: recorded
        and shown as such, its body and what it depends on do not run, its result is None. At replay the condition must
        come out as before. `at_most_once` (ours): the attempt is durable before it begins, there is no second one, and
        if it is cut short the step fails with StepInterrupted.

        `rollback` (or Cloudflare's trailing {"rollback": fn, "rollbackConfig": {...}}): called if the instance fails or
        is terminated with rollback after this step has begun, last begun step first; with retries and a timeout of its
        own. It is given {ctx, error, output, stepName}, or those of them that it names as parameters.

        Errors of a step reach the caller once no attempt is left. NonRetryableError ends the attempts.
        """
        if "name" in options:
            if name is not None:
                raise TypeError("WorkflowStep.do() got multiple values for argument 'name'")
            name = options.pop("name")
        function = args[0] if len(args) == 1 and callable(args[0]) else next(filter(callable, args), None)
        if function is not None:
            config, undo_options = plain_arguments(args, options)
            handler = Handler(rollback, rollback_config, undo_options)
            call = partial(call_plain, function)
            blocking = is_blocking(function)
            return self._run(name or function.__name__, call, blocking, config, when, at_most_once, handler)
        depends, concurrent, config = decorator_options(args, options, implicit=self._implicit)

        def decorate(function: Callable[..., Any]) -> DecoratedStep:
            step_name = function.__name__ if name is None else name
            declared = DecoratedStep(
                step_name,
                function,
                plan=partial(parameter_plan, function, depends, self._declared if self._implicit else None),
                concurrent=concurrent,
                blocking=is_blocking(function),
                reserve=partial(self._reserve, step_name, when),
                path=current_path(),
                run=partial(
                    self._run_reserved,
                    config=config,
                    at_most_once=at_most_once,
                    handler=Handler(rollback, rollback_config),
                ),
            )
            self._declared[step_name] = declared
            return declared

        return decorate

    def txn(self, name: str, *args: Any, when: Condition = True) -> Promise[Any]:
        """Run a step whose effects on this data directory happen exactly once (ours): `step.txn(name, fn)`, or with a
        config before the function.

        What the function writes to KV, the instances it creates and the events it sends become durable in the same
        transaction as the step's result; until then only the function itself reads them. Calls of methods of Durable
        Objects are made at once, and the object stores the reply together with its own writes, so that a repetition
        gets the same reply and does nothing; that holds for methods that send nothing out before they return. A
        function that is not async runs on the event loop.
        """

        def request() -> Promise[Any]:
            function = next((arg for arg in args if callable(arg)), None)
            if function is None:
                raise TypeError("step.txn() takes a name, a config and one function")
            config, undo_options = plain_arguments(args, {})
            read = read_config(config)
            key, position, condition = self._reserve(name, when, current_path())
            rollback, undo = Handler(None, None, undo_options).read(key.name, read.shown, is_blocking)
            call = Call(partial(call_plain, function), False, read.delay, read.shown, undo, transactional=True)
            return self._driver.ask(StepRequested(key, position, read.config, condition, False, rollback), call)

        return _or_rejected(request)

    def sleep(self, name: str, duration: int | float | str) -> Promise[None]:
        """Do nothing for a duration: a number of milliseconds or text such as "1 day"; at most 365 days.

        The instance may leave memory meanwhile. It never ends early; one that became due while the process was down
        ends at once.
        """

        def request() -> Promise[Any]:
            read_step_name(name)
            duration_ms = read_duration_ms("sleep", duration)
            key, position = self._driver.reserve(current_path(), name)
            due_ms = self._driver.now_ms + duration_ms
            return self._driver.ask(SleepRequested(key, position, StepKind.SLEEP, due_ms, f"{duration_ms} ms"))

        return _or_rejected(request)

    def sleep_until(self, name: str, timestamp: datetime | int | float | str) -> Promise[None]:
        """Do nothing until an instant: a datetime (naive: local time), milliseconds since the epoch, or ISO 8601 text.

        The instant of the first call is recorded and stays in force, so it may be computed from the present time. One
        that has passed ends the sleep at once.
        """

        def request() -> Promise[Any]:
            read_step_name(name)
            due_ms = read_instant_ms(timestamp)
            key, position = self._driver.reserve(current_path(), name)
            return self._driver.ask(SleepRequested(key, position, StepKind.SLEEP_UNTIL, due_ms, ""))

        return _or_rejected(request)

    def wait_for_event(
        self,
        name: str,
        event_type: str | Mapping[str, Any] | None = None,
        timeout: int | float | str | None = None,
        *,
        type: str | None = None,
    ) -> Promise[Any]:
        """Wait for an event of a type, sent before or after this call; each event goes to one wait.

        Returns a JsDict with payload, timestamp and type. Rejects with WorkflowTimeoutError after `timeout` (default
        24 hours). Cloudflare's `{"type": ..., "timeout": ...}` is accepted as second argument.
        """

        def request() -> Promise[Any]:
            read_step_name(name)
            wanted, allowed = event_type, timeout
            if isinstance(wanted, Mapping):
                allowed = wanted.get("timeout") if allowed is None else allowed
                wanted = wanted.get("type")
            wanted = read_event_type(wanted if type is None else type)
            timeout_ms = read_duration_ms("timeout", _DEFAULT_WAIT if allowed is None else allowed)
            key, position = self._driver.reserve(current_path(), name)
            return self._driver.ask(WaitRequested(key, position, wanted, timeout_ms))

        return _or_rejected(request)

    def now(self) -> Promise[datetime]:
        """The present time, as scripts get times (UTC, naive), the same at every replay (ours)."""
        return self._value(StepKind.NOW, lambda: payloads.instant(self._driver.now_ms))

    def random(self) -> Promise[float]:
        """A number from 0 up to 1, the same at every replay (ours)."""
        return self._value(StepKind.RANDOM, lambda: int.from_bytes(self._driver.random.bytes(7), "big") / 2**56)

    def uuid4(self) -> Promise[UUID]:
        """A random UUID, the same at every replay (ours)."""
        return self._value(StepKind.UUID4, lambda: UUID(self._driver.random.uuid()))

    def _value(self, kind: StepKind, make: Callable[[], object]) -> Promise[Any]:
        def request() -> Promise[Any]:
            key, position = self._driver.reserve(current_path(), f"{kind}()")
            return self._driver.ask(ValueRequested(key, position, kind, values.encode(make())))

        return _or_rejected(request)

    sleepUntil = sleep_until
    waitForEvent = wait_for_event

    # Running

    def _reserve(self, name: object, when: Condition, path: tuple[str, ...]) -> tuple[Any, int, bool]:
        """Key, position and the condition's value of a step that is called now."""
        checked = read_step_name(name)
        condition = when if type(when) is bool else _decide(when)
        key, position = self._driver.reserve(path, checked)
        return key, position, condition

    def _run(
        self,
        name: object,
        call: Callable[[Any], Any],
        blocking: bool,
        config: object,
        when: Condition,
        at_most_once: bool,
        handler: Handler,
    ) -> Promise[Any]:
        require_event("step")
        try:
            read = read_config(config)
            reserved = self._reserve(name, when, current_path())
            return self._ask(reserved, call, blocking, read, at_most_once, handler)
        except Exception as error:
            return Promise.rejected(error)

    def _run_reserved(
        self,
        reserved: tuple[Any, int, bool],
        call: Callable[[Any], Any],
        blocking: bool,
        *,
        config: object,
        at_most_once: bool,
        handler: Handler,
    ) -> Promise[Any]:
        return self._ask(reserved, call, blocking, read_config(config), at_most_once, handler)

    def _ask(
        self,
        reserved: tuple[Any, int, bool],
        call: Callable[[Any], Any],
        blocking: bool,
        read: ReadConfig,
        at_most_once: bool,
        handler: Handler,
    ) -> Promise[Any]:
        key, position, condition = reserved
        rollback, undo = handler.read(key.name, read.shown, is_blocking)
        request = StepRequested(key, position, read.config, condition, at_most_once, rollback)
        return self._driver.ask(request, Call(call, blocking, read.delay, read.shown, undo))


def _decide(when: Condition) -> bool:
    if not callable(when):
        return bool(when)
    value = when()
    if isinstance(value, Awaitable):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError("when= takes a value or a function that is not async")
    return bool(value)


def _or_rejected(request: Callable[[], Promise[Any]]) -> Promise[Any]:
    """What the script did wrong reaches it where it awaits the step, as every other error of a step does."""
    require_event("step")
    try:
        return request()
    except Exception as error:
        return Promise.rejected(error)
