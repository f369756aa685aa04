"""What an activation takes from the inbox of its instance: commands as they come, events as they are waited for.

Events stay in the store until the script waits for one of their type; then as many are taken as there are waits. So
what is in memory does not grow with what has been sent.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_runtime.actors.api import ActorAddress
from edge_runtime.promise import Promise
from edge_runtime.store.api import Store
from edge_runtime.workflows.core.effects import EventArrived
from edge_runtime.workflows.core.journal import StepKey
from edge_runtime.workflows.stored import inbox
from edge_runtime.workflows.stored.inbox import Asked


class InboxReader:
    """`take` is given each event, in the order of sending among those of one type."""

    def __init__(self, store: Store, address: ActorAddress, take: Callable[[EventArrived], None]) -> None:
        self._store = store
        self._address = address
        self._take = take
        self._waits: dict[StepKey, str] = {}
        """Waits that the script has begun and not got the results of, by the type that they wait for."""
        self._wanted: dict[str, int] = {}
        """How many events of a type are to be taken: what the waits want, less what was taken and is not recorded."""
        self._events: dict[bytes, str] = {}
        """Events that were taken and are not recorded, by where they are stored."""
        self._taken: set[bytes] = set()
        """Where everything is stored that was taken and is not yet durably removed."""
        self._last: dict[str, bytes] = {}
        """Where the last event of a type was that was taken since `look`."""

    def let_go(self) -> None:
        """Give nothing to anybody any more."""
        self._take = _nothing
        self._wanted.clear()

    def commands(self) -> list[Asked]:
        """Those that were not taken before, in the order of sending."""
        with self._store.snapshot() as snapshot:
            found = inbox.read_commands(snapshot, self._address)
        return [command for command in found if command.inbox_key not in self._taken]

    def command_taken(self, command: Asked) -> None:
        self._taken.add(command.inbox_key)

    def wait_begins(self, key: StepKey, event_type: str) -> None:
        """Call before the engine hears of the wait: an event that is there already is recorded together with it."""
        self._waits[key] = event_type
        self._wanted[event_type] = self._wanted.get(event_type, 0) + 1
        self._take_events(event_type)

    def wait_ends(self, key: StepKey) -> None:
        """The script has its result. No effect for what is no wait."""
        event_type = self._waits.pop(key, None)
        if event_type is not None:
            self._count(event_type, -1)

    def look(self) -> None:
        """Something may have been sent: take what is waited for."""
        self._last.clear()
        for event_type in list(self._wanted):
            self._take_events(event_type)

    def _take_events(self, event_type: str) -> None:
        while self._wanted.get(event_type, 0) > 0:
            with self._store.snapshot() as snapshot:
                last = self._last.get(event_type)
                event = inbox.next_event(snapshot, self._address, event_type, self._taken, last)
            if event is None:
                return
            self._last[event_type] = event.inbox_key
            self._events[event.inbox_key] = event_type
            self._taken.add(event.inbox_key)
            self._count(event_type, -1)
            self._take(event)

    def recorded(self, inbox_key: bytes, committed: Promise[None]) -> None:
        """The batch that removes an event or a command has been queued."""
        event_type = self._events.pop(inbox_key, None)
        if event_type is not None:
            self._count(event_type, 1)
        committed.add_done_callback(lambda _: self._taken.discard(inbox_key))

    def _count(self, event_type: str, change: int) -> None:
        count = self._wanted.get(event_type, 0) + change
        if count:
            self._wanted[event_type] = count
        else:
            self._wanted.pop(event_type, None)


def _nothing(_: EventArrived) -> None:
    pass
