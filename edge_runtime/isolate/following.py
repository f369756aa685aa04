"""What the supervisor tells an isolate, from the first client to serve until it is to end, and the orderly end."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import trio

from edge_runtime.actors.api import ActorKind
from edge_runtime.actors.host import LocalActorHost
from edge_runtime.actors.placement import View
from edge_runtime.config.model import WorkerConfig
from edge_runtime.control import (
    ActorDeaths,
    ChargeLost,
    Connection,
    Drained,
    ListObjects,
    Members,
    MembersReleased,
    Objects,
    PeerConnected,
    PeerMissing,
    Ping,
    Pong,
    Retire,
    Routes,
    RunScheduled,
    TimersChanged,
    WorkerMissing,
)
from edge_runtime.isolate.events.accounting import Accounting
from edge_runtime.isolate.events.lifecycle import IsolateEvents
from edge_runtime.isolate.handlers.schedules import cron_address
from edge_runtime.isolate.http.open_connections import OpenConnections
from edge_runtime.isolate.http1.client_socket import ClientSocket
from edge_runtime.isolate.http1.server import Http1Server
from edge_runtime.isolate.hypercorn.server import HypercornServer
from edge_runtime.isolate.outgoing.relay import Relay
from edge_runtime.isolate.peers.elsewhere import Peers
from edge_runtime.isolate.peers.neighbours import Neighbours
from edge_runtime.limits import EXIT_GRACE_S, MOVE_PATIENCE_S
from edge_runtime.wire import Channel

_log = logging.getLogger("edge.isolate")

EXIT_ORPHANED = 5
"""The supervisor is gone."""


@dataclass(slots=True, eq=False)
class Following:
    """`work` has the tasks of clients and events, `background` what serves them."""

    config: WorkerConfig
    channel: Channel
    work: trio.Nursery
    background: trio.Nursery
    connections: OpenConnections
    http: Http1Server | HypercornServer
    relay: Relay
    neighbours: Neighbours
    events: IsolateEvents
    accounting: Accounting
    host: LocalActorHost
    peers: Peers
    placed: trio.Event = field(default_factory=trio.Event)
    """Set once this isolate is one of those that the worker's actors live in."""
    _released: trio.Event = field(default_factory=trio.Event)
    _drain_until_s: float = inf

    async def run(self) -> None:
        """Do what the supervisor says until it says Retire; then drain."""
        grace_s = await self._follow()
        self.background.start_soon(self._follow_on)
        await self._drain(grace_s)

    async def _follow(self) -> float:
        """Do what the supervisor says until it says Retire; returns the grace in seconds.

        Without a supervisor the process ends at once, as the death signal would have it in a moment: whoever waits for
        an answer sees the connection end, and is told nothing of actors that were given up for no other reason.
        """
        while True:
            received = await self.channel.receive()
            if received is None:
                os._exit(EXIT_ORPHANED)
            message, descriptors = received
            match message:
                case Connection():
                    self._accept(descriptors)
                case Ping(number=number):
                    self.channel.send_soon(
                        Pong(
                            number,
                            len(self.connections),
                            self.events.open,
                            self.host.active,
                            self.host.next_due_ms,
                            self.events.was_used(),
                        )
                    )
                case ListObjects(number=number, namespace=namespace):
                    ids = self.host.in_memory(ActorKind.OBJECT, namespace)
                    self.channel.send_soon(Objects(number, ids))
                case Routes():
                    self.relay.routes_changed(message)
                    self.neighbours.workers_changed(message)
                case Members():
                    self._members_changed(message)
                case PeerConnected():
                    self.peers.connected(message, descriptors)
                case WorkerMissing():
                    self.peers.worker_missing(message)
                case PeerMissing():
                    pass  # its calls wait for the view that says so
                case TimersChanged():
                    self.host.timers_changed()
                case ActorDeaths(deaths=deaths):
                    self.host.learn_deaths(deaths)
                case ChargeLost():
                    self.events.charge_lost(message)
                case RunScheduled(cron=cron, scheduled_ms=scheduled_ms):
                    self.host.deliver(cron_address(self.config.name, cron), scheduled_ms)
                case Retire(grace_s=grace_s):
                    return grace_s
                case _:
                    _log.error("the supervisor sent %r, which an isolate does not know", type(message).__name__)

    async def _follow_on(self) -> None:
        """While it drains: calls to other isolates go on, and the actors are released when the members agree on it."""
        while True:
            await self._follow()

    def _members_changed(self, message: Members) -> None:
        view = View(message.number, message.agreed, message.proposed, message.releasing)
        if message.me is not None and message.worker == self.config.address:
            self.host.change_view(view, message.me)
            if message.me in view.agreed:
                self.placed.set()
            if view.releasing:
                self.background.start_soon(self._release_lost, view, message.me)
        self.peers.members_changed(message.worker, view, message.me)

    async def _release_lost(self, view: View, me: int) -> None:
        left_s = self._drain_until_s - trio.current_time()
        await self.host.release_lost(view.proposed, max(0.0, min(MOVE_PATIENCE_S, left_s)))
        try:
            await self.channel.send(MembersReleased(view.number))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the supervisor is gone, and nobody is to get the actors
        if me not in view.proposed:
            self._released.set()

    def _accept(self, descriptors: Sequence[int]) -> None:
        for descriptor in descriptors:
            client = ClientSocket(fileno=descriptor)
            if isinstance(self.http, HypercornServer):
                self.work.start_soon(self.http.serve, client.stream())
            else:
                self.work.start_soon(self.http.serve, client)

    async def _drain(self, grace_s: float) -> None:
        """Answer what was asked, release the actors, let streams end, and stop; the whole within `grace_s`.

        Requests come first because they may call actors; streams that are still being sent do not hold the actors
        back, since others wait for them.
        """
        deadline = self._drain_until_s = trio.current_time() + grace_s
        with trio.move_on_at(deadline):
            await self.http.drain()
            await self.events.wait_answered()
        try:
            await self.channel.send(Drained())
            # What was not released when the time is over is released by the end of the process.
            with trio.move_on_at(deadline + EXIT_GRACE_S / 2):
                await self._released.wait()
        except trio.BrokenResourceError:
            pass  # the supervisor is gone
        await self.host.release()
        with trio.move_on_at(deadline):
            await self.connections.wait_empty()
            await self.events.wait_none_open()
        self.work.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await self.accounting.finish(self.events)
            await self.events.log.flush(self.channel)
