"""Idle actors leave memory, and the memory goes back to the system."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Mapping

import trio

from edge_runtime.actors.activation import CODE_UPDATED, STORAGE_TIMED_OUT, Activation
from edge_runtime.actors.api import ActorAddress
from edge_runtime.errors import ActorBroken
from edge_runtime.limits import ACTOR_WAVE, ACTOR_WAVE_SWEEPS_MAX, STORAGE_TIMEOUT_S
from edge_runtime.seams import Clock


class Eviction:
    """Looks through the actors in memory: evicts idle ones, and breaks those whose writes take too long."""

    def __init__(
        self,
        activations: Mapping[ActorAddress, Activation],
        clock: Clock,
        sweep_s: float,
        give_back: Callable[[], None],
    ) -> None:
        """`sweep_s`: how often it looks; math.inf: all stay in memory. `give_back()` is called after a wave of
        evictions."""
        self.populated = trio.Event()
        """To be set when there are activations."""
        self._activations = activations
        self._clock = clock
        self._sweep_s = sweep_s
        self._give_back = give_back
        self._evicted = 0
        """Since memory was last given back."""
        self._nursery: trio.Nursery | None = None
        self._tasks = contextvars.Context()

    def open(self, nursery: trio.Nursery, tasks: contextvars.Context) -> None:
        """Let evictions run in there, with those context variables."""
        self._nursery, self._tasks = nursery, tasks

    async def run(self) -> None:
        """Sweep until cancelled. The memory is returned after a wave of evictions: when nothing more was found to
        evict, or when it goes on and on."""
        sweeps = 0
        while True:
            if not self._activations and self._evicted < ACTOR_WAVE:
                self.populated = trio.Event()
                await self.populated.wait()
            await trio.sleep(self._sweep_s)
            before = self._evicted
            self._sweep()
            sweeps += 1
            if self._evicted >= ACTOR_WAVE and (self._evicted == before or sweeps >= ACTOR_WAVE_SWEEPS_MAX):
                self._give_back()
                self._evicted = 0
            if not self._evicted:
                sweeps = 0

    def _sweep(self) -> None:
        now_s = self._clock.monotonic_s()
        for activation in list(self._activations.values()):
            if activation.closing:
                continue
            oldest_s = activation.oldest_commit_s
            if oldest_s is not None and now_s - oldest_s > STORAGE_TIMEOUT_S:
                activation.abort(ActorBroken(STORAGE_TIMED_OUT, overloaded=True))
            elif activation.idle and (now_s - activation.touched_s) * 1000 >= activation.idle_ms:
                self.evict(activation)

    def evict(self, activation: Activation) -> None:
        if self._sweep_s == math.inf:
            return
        assert self._nursery is not None
        activation.closing = True
        self._evicted += 1
        self._tasks.run(self._nursery.start_soon, activation.stop, ActorBroken(CODE_UPDATED))
