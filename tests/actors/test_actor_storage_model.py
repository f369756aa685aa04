"""The storage API against a dict, crashes included."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from storage_without_host import make_storage

from edge_runtime.actors.timers import next_due_ms, read_record
from edge_runtime.store.memory_store import MemoryStore

NAMES = st.sampled_from(["", "a", "aa", "ab", "b", "b\0", "b\0c", "é", "\uffff", "\U0001f600", "z"])
VALUES = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.booleans(), max_size=3)
BOUNDS = st.none() | NAMES


class StorageModel(RuleBasedStateMachine):
    """Whatever is written, flushed, committed or lost in a crash: reads see every write, and after a crash exactly
    the turns that were committed."""

    def __init__(self):
        super().__init__()
        self.store = MemoryStore(manual=True)
        self.start()
        self.model, self.layers = {}, []
        self.committed, self.queued, self.alarm = [({}, None)], [], None

    def start(self):
        self.storage, self.context = make_storage(self.store)

    def top(self):
        return self.layers[-1] if self.layers else self.model

    @rule(name=NAMES, value=VALUES)
    def put(self, name, value):
        assert self.storage.put(name, value).result() is None
        self.top()[name] = value

    @rule(entries=st.dictionaries(NAMES, VALUES, max_size=4))
    def put_many(self, entries):
        self.storage.put(entries).result()
        self.top().update(entries)

    @rule(name=NAMES)
    def delete(self, name):
        assert self.storage.delete(name).result() is (name in self.top())
        self.top().pop(name, None)

    @rule(names=st.lists(NAMES, max_size=4, unique=True))
    def delete_many(self, names):
        assert self.storage.delete(names).result() == sum(name in self.top() for name in names)
        for name in names:
            self.top().pop(name, None)

    @precondition(lambda self: not self.layers)
    @rule()
    def delete_all(self):
        self.storage.deleteAll().result()
        self.model.clear()
        self.alarm = None

    @precondition(lambda self: not self.layers)
    @rule(due_ms=st.integers(1001, 2000))
    def set_alarm(self, due_ms):
        self.storage.setAlarm(due_ms).result()
        self.alarm = due_ms

    @precondition(lambda self: not self.layers)
    @rule()
    def delete_alarm(self):
        self.storage.deleteAlarm().result()
        self.alarm = None

    @precondition(lambda self: len(self.layers) < 3)
    @rule()
    def begin(self):
        self.layers.append(dict(self.top()))
        self.open_layers = [*getattr(self, "open_layers", []), self.storage._overlay.begin()]

    @precondition(lambda self: self.layers)
    @rule(commit=st.booleans())
    def end(self, commit):
        self.storage._overlay.end(self.open_layers.pop(), commit=commit)
        layer = self.layers.pop()
        if commit:
            self.top().clear()
            self.top().update(layer)

    @rule()
    def end_turn(self):
        if self.context.open_turn is not None:
            self.context.flush()
            self.queued.append((dict(self.model), self.alarm))

    @rule(count=st.integers(1, 3))
    def commit(self, count):
        for _ in range(self.store.commit_group(count)):
            self.committed.append(self.queued.pop(0))

    @rule()
    def crash(self):
        self.store = self.store.crash()
        self.start()
        model, self.alarm = self.committed[-1]
        self.model, self.layers, self.queued, self.open_layers = dict(model), [], [], []
        with self.store.snapshot() as snapshot:
            assert next_due_ms(snapshot, self.context.address.worker) == self.alarm
            self.context.record = read_record(snapshot, self.context.address)

    @rule(
        start=BOUNDS, end=BOUNDS, prefix=st.sampled_from([None, "", "a", "b", "b\0", "é"]),
        reverse=st.booleans(), limit=st.none() | st.integers(1, 4), exclusive=st.booleans(),
    )  # fmt: skip
    def list_range(self, start, end, prefix, reverse, limit, exclusive):
        options = {"startAfter" if exclusive else "start": start, "end": end, "prefix": prefix, "reverse": reverse}
        found = self.storage.list(options, limit=limit).result()
        names = sorted(
            name
            for name in self.top()
            if (start is None or (name > start if exclusive else name >= start))
            and (end is None or name < end)
            and name.startswith(prefix or "")
        )
        expected = (names[::-1] if reverse else names)[:limit]
        assert list(found.items()) == [(name, self.top()[name]) for name in expected]

    @invariant()
    def reads_see_every_write(self):
        assert dict(self.storage.list().result()) == self.top()
        for name in ("a", "b\0"):
            assert self.storage.get(name).result() == self.top().get(name)
        assert self.storage.kv.get("aa") == self.top().get("aa")
        assert self.storage.getAlarm().result() == self.alarm


TestStorageModel = StorageModel.TestCase
TestStorageModel.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
