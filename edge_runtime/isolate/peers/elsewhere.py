"""The way to actors that live in other isolates: of this worker, where it has several, and of other workers.

Calls are held while nobody owns their actor: it moves, its worker starts, the isolate is not connected yet. Calls to
one actor leave in the order in which they were made, also when it moves: what was sent to the owner before and not
begun there comes back first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from bindings.durable_objects.messages import RpcCall
from edge_runtime.actors.activation import OVERLOADED
from edge_runtime.actors.api import ActorAddress, ActorHost
from edge_runtime.actors.placement import NOBODY, View, route
from edge_runtime.control import (
    ConnectPeer,
    FindWorker,
    PeerConnected,
    TimersWritten,
    WorkerMissing,
)
from edge_runtime.errors import ActorBroken, UsageError
from edge_runtime.frames import Message
from edge_runtime.isolate.peers.link import PeerLink, open_channel
from edge_runtime.isolate.peers.made_calls import MovedAway
from edge_runtime.limits import ACTOR_QUEUE_MAX, PEER_HOLD_S
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.workers.conversion import received
from edge_runtime.workers.websocket_recipient import SocketFlags

HELD_TOO_LONG: Final = "Durable Object is overloaded. Requests queued for too long."

_LOOK_S: Final = 1.0
_ASK_AGAIN_S: Final = 0.05

Place = tuple[str, int]
"""A worker, and the number of one of its isolates."""


class _Call:
    __slots__ = ("held_since_s", "identity", "message", "name", "reply")

    def __init__(self, message: object, name: str | None, identity: bytes | None, now_s: float) -> None:
        self.message = message
        self.name = name
        self.identity = identity
        self.reply: Promise[object] = Promise()
        self.held_since_s = now_s


class _Route:
    """The calls to one actor elsewhere."""

    __slots__ = ("at", "back", "needs_view", "open", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Call] = deque()
        self.open = 0
        """Calls sent and not answered, all to the same place."""
        self.at: Place | None = None
        self.back: list[_Call] = []
        """Calls that came back unbegun, in the order in which they were sent."""
        self.needs_view = 0
        """The number of the view that sent them back: go by none before it."""


class Peers:
    """`actors.api.Elsewhere` of one isolate, and the receiver of calls from others."""

    def __init__(self, worker: str, tell: Callable[[Message], object], clock: Clock, flags: SocketFlags) -> None:
        """`tell` sends to the supervisor; `flags` are for WebSockets that come from other isolates."""
        self._flags = flags
        self._worker = worker
        self._tell = tell
        self._clock = clock
        self._me: int | None = None
        self._views: dict[str, View] = {}
        self._routes: dict[ActorAddress, _Route] = {}
        self._links: dict[Place, PeerLink] = {}
        self._asked_for: set[str | Place] = set()
        self._early: deque[tuple[int, Callable[[], None]]] = deque()
        """Calls from isolates that know a newer view than this one does."""
        self._host: ActorHost
        self._nursery: trio.Nursery

    async def run(self, host: ActorHost, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the links until cancelled."""
        self._host = host
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                await trio.sleep(_LOOK_S)
                self._refuse_old()

    # What the host asks

    def forward(
        self, address: ActorAddress, message: object, name: str | None, identity: bytes | None
    ) -> Promise[object]:
        found = self._routes.get(address)
        if found is None:
            found = self._routes[address] = _Route()
        elif found.open + len(found.waiting) + len(found.back) >= ACTOR_QUEUE_MAX:
            return Promise.rejected(_overloaded())
        call = _Call(message, name, identity, self._clock.monotonic_s())
        found.waiting.append(call)
        self._dispatch(address, found)
        return call.reply

    def timers_written(self, worker: str) -> None:
        self._tell(TimersWritten(worker))

    # What the supervisor says

    def members_changed(self, worker: str, view: View, me: int | None) -> None:
        """Take note of where a worker's actors live. The host must know already, if it is this worker."""
        if worker == self._worker:
            self._me = me
        self._views[worker] = view
        if view.proposed or view.agreed:
            self._asked_for = {
                asked for asked in self._asked_for if asked != worker and (isinstance(asked, str) or asked[0] != worker)
            }
        self._receive_early()
        self._dispatch_all(worker)

    def worker_missing(self, message: WorkerMissing) -> None:
        self._asked_for.discard(message.worker)
        for address, found in list(self._routes.items()):
            if address.worker == message.worker:
                text = f"worker {message.worker} cannot be reached: {message.reason}"
                while found.waiting:
                    error = ActorBroken(text, reset=False) if message.known else UsageError(text)
                    found.waiting.popleft().reply.reject(error)
                self._drop_if_done(address, found)

    def connected(self, message: PeerConnected, descriptors: tuple[int, ...]) -> None:
        place = (message.worker, message.isolate)
        channel = open_channel(descriptors[0])
        if message.asked:
            link = PeerLink(channel, self, self._nursery, self._flags, lambda: self._use(place, link))
            self._nursery.start_soon(self._serve, link, place)
        else:
            link = PeerLink(channel, self, self._nursery, self._flags)
            link.greet()
            self._nursery.start_soon(link.run)

    def _use(self, place: Place, link: PeerLink) -> None:
        self._links[place] = link
        self._asked_for.discard(place)
        self._dispatch_all(place[0])

    async def _serve(self, link: PeerLink, place: Place) -> None:
        try:
            await link.run()
        finally:
            if self._links.get(place) is link:
                del self._links[place]
        if place in self._asked_for:
            # It was introduced and has not answered: dead most likely, and the view will say so.
            await trio.sleep(_ASK_AGAIN_S)
            self._asked_for.discard(place)
            self._dispatch_all(place[0])

    def _dispatch_all(self, worker: str) -> None:
        for address, found in list(self._routes.items()):
            if address.worker == worker:
                self._dispatch(address, found)

    # Calls on their way

    def _dispatch(self, address: ActorAddress, found: _Route) -> None:
        """Send what can be sent."""
        if not found.open and found.back:
            found.waiting.extendleft(reversed(found.back))
            found.back.clear()
        view = self._views.get(address.worker, NOBODY)
        while found.waiting:
            if found.back or view.number < found.needs_view:
                return
            own = address.worker == self._worker
            owner = route(address, view, self._me if own else None)
            if owner is None:
                if not view.agreed and not view.proposed:
                    self._ask(address.worker, FindWorker(address.worker))
                return
            place = (address.worker, owner)
            if found.open and found.at != place:
                return
            if own and owner == self._me:
                self._deliver_here(address, found)
                break
            link = self._links.get(place)
            if link is None or link.lost:
                self._ask(place, ConnectPeer(*place))
                return
            call = found.waiting.popleft()
            found.at = place
            found.open += 1
            reply = link.call(address, call.message, call.name, view.number, call.identity)
            reply.add_done_callback(partial(self._replied, address, found, call, view.number))
        self._drop_if_done(address, found)

    def _deliver_here(self, address: ActorAddress, found: _Route) -> None:
        del self._routes[address]
        while found.waiting:
            call = found.waiting.popleft()
            reply = self._host.deliver(address, call.message, name=call.name, identity=call.identity)
            reply.add_done_callback(partial(_settle, call.reply))

    def _replied(self, address: ActorAddress, found: _Route, call: _Call, view: int, reply: Promise[object]) -> None:
        found.open -= 1
        message = call.message
        if isinstance(reply.error, MovedAway):
            found.needs_view = max(found.needs_view, reply.error.view, view + 1)
            found.back.append(call)
        elif reply.error is None and isinstance(message, RpcCall) and message.caller is not None:
            call.reply.resolve(received(message.caller, reply.result()))
        else:
            _settle(call.reply, reply)
        if not found.open:
            self._dispatch(address, found)

    def _drop_if_done(self, address: ActorAddress, found: _Route) -> None:
        if not found.waiting and not found.open and not found.back and self._routes.get(address) is found:
            del self._routes[address]

    def _ask(self, what: str | Place, message: Message) -> None:
        if what not in self._asked_for:
            self._asked_for.add(what)
            self._tell(message)

    def _refuse_old(self) -> None:
        """Refuse calls that were held too long."""
        now_s = self._clock.monotonic_s()
        for address, found in list(self._routes.items()):
            while found.waiting and now_s - found.waiting[0].held_since_s > PEER_HOLD_S:
                error = ActorBroken(HELD_TOO_LONG, retryable=False, overloaded=True, reset=False)
                found.waiting.popleft().reply.reject(error)
            self._drop_if_done(address, found)

    # Calls from other isolates

    def received(
        self, address: ActorAddress, message: object, name: str | None, view: int, identity: bytes | None
    ) -> Promise[object]:
        mine = self._views.get(self._worker, NOBODY).number
        if address.worker != self._worker:
            return Promise.rejected(UsageError(f"worker {self._worker} is not {address.worker}"))
        if view <= mine and not self._early:
            if self._host.owns(address):
                return self._host.deliver(address, message, name=name, identity=identity)
            return Promise.rejected(MovedAway(mine))
        if len(self._early) >= ACTOR_QUEUE_MAX:
            return Promise.rejected(_overloaded())
        promise: Promise[object] = Promise()

        def deliver() -> None:
            known = min(view, self._views[self._worker].number)
            self.received(address, message, name, known, identity).add_done_callback(partial(_settle, promise))

        self._early.append((view, deliver))
        return promise

    def _receive_early(self) -> None:
        mine = self._views.get(self._worker, NOBODY).number
        early, self._early = self._early, deque()
        for view, deliver in early:
            if view <= mine and not self._early:
                deliver()
            else:
                self._early.append((view, deliver))


def _overloaded() -> ActorBroken:
    return ActorBroken(OVERLOADED, retryable=False, overloaded=True, reset=False)


def _settle(promise: Promise[object], reply: Promise[object]) -> None:
    if reply.error is not None:
        promise.reject(reply.error)
    else:
        promise.resolve(reply.result())
