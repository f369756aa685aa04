"""Promise: the awaitable that every binding returns, for scripts of either flavour.

Like a JavaScript promise it stands for work that has already begun: `storage.put()` writes whether or not it is
awaited. Awaiting a settled promise does not give up control, which is what makes storage reads atomic with the code
around them. A pending one may be awaited from trio tasks and from asyncio tasks alike, any number of times.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import sniffio
import trio

T = TypeVar("T")


class Cancellable(Protocol):
    """What owns work: a trio cancel scope, an asyncio task."""

    def cancel(self) -> object: ...


class Promise(Coroutine[Any, Any, T], Generic[T]):
    """A result that is there or will be.

    It passes for a coroutine object, so `nursery.start_soon(kv.put, "k", "v")` and `asyncio.create_task(kv.get("k"))`
    work. Cancelling a waiter abandons the wait; the work goes on, except where it was begun with a cancel scope
    (`OwnedPromise`) and nobody else waits: then the work is cancelled too, so that a timeout around `fetch` ends it.

    `resolve` and `reject` must be called on the event loop's thread, once.
    """

    __slots__ = ("__weakref__", "_callbacks", "_driver", "_error", "_settled", "_value")

    def __init__(self) -> None:
        self._settled = False
        self._error: BaseException | None = None
        self._callbacks: Callable[[Promise[T]], object] | list[Callable[[Promise[T]], object]] | None = None
        """One is kept as it is: few promises ever have more."""
        self._value: Any
        self._driver: Generator[Any, Any, T]

    @classmethod
    def resolved(cls, value: T) -> Promise[T]:
        # Nearly every storage operation comes by here; what only pending promises need is left out.
        promise = cls.__new__(cls)
        promise._settled = True
        promise._value = value
        promise._error = promise._callbacks = None
        return promise

    @classmethod
    def rejected(cls, error: BaseException) -> Promise[T]:
        promise = cls.__new__(cls)
        promise._settled = True
        promise._error = error
        promise._callbacks = None
        return promise

    @property
    def settled(self) -> bool:
        return self._settled

    @property
    def error(self) -> BaseException | None:
        """The error of a rejected promise; None while pending and when resolved."""
        return self._error

    @property
    def owned_by(self) -> Cancellable | None:
        """The scope of the work behind this promise, if the promise may end it."""
        return None

    def resolve(self, value: T) -> None:
        assert not self._settled, "a promise settles once"
        self._value = value
        self._settled = True
        if self._callbacks is not None:
            self._call_back()

    def reject(self, error: BaseException) -> None:
        assert not self._settled, "a promise settles once"
        self._error = error
        self._settled = True
        if self._callbacks is not None:
            self._call_back()

    def _call_back(self) -> None:
        callbacks, self._callbacks = self._callbacks, None
        if type(callbacks) is list:
            for callback in callbacks:
                callback(self)
        elif callbacks is not None:
            callbacks(self)  # type: ignore[operator]  # `type() is` narrows one way only

    def add_done_callback(self, callback: Callable[[Promise[T]], object]) -> None:
        """Call `callback(self)` once settled; at once if it is. Callbacks run in the order they were added."""
        if self._settled:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = callback
        elif type(self._callbacks) is list:
            self._callbacks.append(callback)
        else:
            self._callbacks = [self._callbacks, callback]  # type: ignore[list-item]

    def result(self) -> T:
        """The value of a settled promise, or its error raised."""
        assert self._settled, "the promise is pending"
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def __await__(self) -> Generator[Any, Any, T]:
        if not self._settled:
            self._hasten()
        if not self._settled:
            if sniffio.thread_local.name == "asyncio":
                yield from self._wait_asyncio()
            else:
                yield from self._wait_trio()
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value

    def _hasten(self) -> None:
        """Somebody is about to give up control for this: a chance to settle it before."""

    def _wait_trio(self) -> Generator[Any, Any, None]:
        task = trio.lowlevel.current_task()

        def wake(_: Promise[T]) -> None:
            trio.lowlevel.reschedule(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._leave(wake)
            return trio.lowlevel.Abort.SUCCEEDED

        self.add_done_callback(wake)
        yield from trio.lowlevel.wait_task_rescheduled(abort).__await__()  # noqa: ASYNC105  # a generator has no await

    def _wait_asyncio(self) -> Generator[Any, Any, None]:
        import asyncio

        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: Promise[T]) -> None:
            if not future.done():
                future.set_result(None)

        self.add_done_callback(wake)
        try:
            yield from future
        except asyncio.CancelledError:
            self._leave(wake)
            raise

    def _leave(self, wake: Callable[[Promise[T]], object]) -> None:
        """A wait was abandoned."""
        callbacks = self._callbacks
        if type(callbacks) is list:
            if wake in callbacks:
                callbacks.remove(wake)
        elif callbacks is wake:
            self._callbacks = None

    # The coroutine protocol, for trio.Nursery.start_soon and asyncio.create_task.

    def send(self, value: Any) -> Any:
        return self._driving().send(value)

    def throw(
        self,
        typ: Any,
        val: BaseException | object | None = None,
        tb: TracebackType | None = None,
    ) -> Any:
        error = typ if isinstance(typ, BaseException) else typ(*(() if val is None else (val,)))
        return self._driving().throw(error)

    def close(self) -> None:
        self._driving().close()

    def _driving(self) -> Generator[Any, Any, T]:
        try:
            return self._driver
        except AttributeError:
            self._driver = self.__await__()
            return self._driver

    def __repr__(self) -> str:
        state = "pending" if not self._settled else "resolved" if self._error is None else "rejected"
        return f"<Promise {state}>"


class OwnedPromise(Promise[T]):
    """A promise of work that its only waiter may end by being cancelled."""

    __slots__ = ("_owned", "_waiting")

    def __init__(self, owned_by: Cancellable | None) -> None:
        super().__init__()
        self._owned = owned_by
        self._waiting = 0

    @property
    def owned_by(self) -> Cancellable | None:
        return self._owned

    def _hasten(self) -> None:
        self._waiting += 1

    def _leave(self, wake: Callable[[Promise[T]], object]) -> None:
        super()._leave(wake)
        self._waiting -= 1
        if self._owned is not None and not self._waiting and not self._settled:
            self._owned.cancel()


class PromiseCancelled(Exception):
    """The event that this work belonged to has ended, or its owner was cancelled."""


async def settle(promise: Promise[T], work: Awaitable[T]) -> None:
    """Await `work` and settle `promise` with what became of it.

    Whatever a script raises, SystemExit included, goes to the promise and nowhere else. Cancellation rejects the
    promise with `PromiseCancelled` and goes on to the scope that caused it.
    """
    try:
        value = await work
    except trio.Cancelled:
        promise.reject(PromiseCancelled("the event that this work belonged to has ended"))
        raise
    except BaseExceptionGroup as group:
        cancelled, rest = group.split(trio.Cancelled)
        promise.reject(rest or PromiseCancelled("the event that this work belonged to has ended"))
        if cancelled is not None:
            raise cancelled from None
    except BaseException as error:
        promise.reject(error)
    else:
        promise.resolve(value)
