"""Calls that are answered once: the reply is stored with what was written for it, and repetitions get that reply.

Table.ANSWERS: the caller's identity of the call -> the reply, as `store.values`. Only replies are kept: a call that
failed is made again.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from edge_runtime.actors.turns import Turn
from edge_runtime.promise import Promise
from edge_runtime.store import values
from edge_runtime.store.api import Store, Table


class Writes(Protocol):
    """What this needs of the activation."""

    store: Store

    def turn(self) -> Turn: ...

    def join_turns(self) -> None: ...

    def part_turns(self) -> None: ...


class Receiver(Protocol):
    def receive(self, message: object) -> Awaitable[object]: ...


class Answers:
    """The identified calls of one activation."""

    def __init__(self, writes: Writes) -> None:
        self._writes = writes
        self._running: dict[bytes, Promise[object]] = {}
        """Also those whose reply is not durable yet."""

    async def once(self, identity: bytes, body: Receiver, message: object) -> object:
        """The reply of `body.receive(message)`, which is in plain form, now or at an earlier time."""
        if (running := self._running.get(identity)) is not None:
            return await running
        stored = self._writes.store.get(Table.ANSWERS, identity)
        if stored is not None:
            return values.decode(stored)
        reply = self._running[identity] = Promise[object]()
        self._writes.join_turns()
        try:
            result = await body.receive(message)
            turn = self._writes.turn()
            turn.confirmed = True
            turn.batch.put(Table.ANSWERS, identity, values.encode(result))
        except BaseException as error:
            del self._running[identity]
            reply.reject(error)
            raise
        else:
            turn.durable.add_done_callback(lambda _: self._running.pop(identity, None))
            reply.resolve(result)
            return result
        finally:
            self._writes.part_turns()
