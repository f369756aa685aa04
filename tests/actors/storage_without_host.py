"""The storage of an actor without a host: turns end when the test says so."""

from actor_fakes import address

from edge_runtime.actors.storage import ActorStorage
from edge_runtime.actors.timers import ActorRecord, write_record
from edge_runtime.actors.turns import Turn
from edge_runtime.promise import Promise
from edge_runtime.store.memory_store import MemoryStore


class PlainContext:
    """An actor without a host: turns end when `flush` is called."""

    def __init__(self, store):
        self.address = address()
        self.store = store
        self.record = None
        self.open_turn = None
        self.refusal = None
        self.clock = self

    def now_ms(self):
        return 1000

    due_ms = scheduled_ms = property(lambda self: None if self.record is None else self.record.due_ms)

    def set_timer(self, batch, due_ms, *, retries=0):
        new = None if due_ms is None else ActorRecord(due_ms, retries, None, due_ms)
        write_record(batch, self.address, self.record, new)
        self.record = new

    def forget(self, batch):
        self.set_timer(batch, None)

    def turn(self):
        if self.open_turn is None:
            self.open_turn = Turn()
        return self.open_turn

    def flush(self):
        turn, self.open_turn = self.open_turn, None
        if turn is not None:
            self.store.commit(turn.batch).add_done_callback(turn.settled)


def run_now(callback):
    """A critical section with nobody to keep out, for callbacks that do not wait."""
    try:
        callback().send(None)
    except StopIteration as done:
        return Promise.resolved(done.value)
    raise AssertionError("the callback waited")


def make_storage(store=None, **options):
    context = PlainContext(store or MemoryStore(manual=True))
    return ActorStorage(context, run_now, **options), context
