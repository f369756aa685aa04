"""A store whose process dies at a chosen commit, and work that is over when it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from edge_runtime.errors import StoreFailed
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch
from edge_runtime.store.memory_store import MemoryStore


class KilledStore(MemoryStore):
    """Commits group by group, at the loop's next turn, and dies before or after the chosen one."""

    def __init__(self, at: int, *, after: bool, before_it: MemoryStore | None = None) -> None:
        super().__init__(manual=True, image=None if before_it is None else before_it.crash()._image)
        self._left = at
        self._after = after
        self._wanted = trio.Event()

    def commit(self, batch: Batch) -> Promise[None]:
        self._wanted.set()
        return super().commit(batch)

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            await trio.lowlevel.checkpoint()
            self._wanted = trio.Event()
            self._left -= 1
            if self._left > 0 or self._after:
                self.commit_group()
            if self._left <= 0:
                return


async def outlived(
    work: Callable[[], Awaitable[None]], store: KilledStore, ends_with: tuple[type[Exception], ...] = (StoreFailed,)
) -> bool:
    """Do `work()` while the store commits; False if the store died before it was done. `ends_with` are the errors that
    the work may see then."""
    done = False
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            nonlocal done
            try:
                await work()
            except ends_with:
                return
            done = True
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await store.run()
        store.crash()
        nursery.cancel_scope.cancel()
    return done
