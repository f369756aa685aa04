"""The storage API of Durable Objects: `ctx.storage`, its synchronous `kv`, its transactions, its alarm.

Reads and writes are done when the call returns, so no other event comes between consecutive storage calls, and their
promises are settled already. A write becomes durable with everything written in the same turn; replies wait for that
at the output gate. Sources: workerd api/actor-state, Cloudflare's documentation of the storage API.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

from edge_runtime.actors.api import ActorContext
from edge_runtime.actors.overlay import Layer, Overlay
from edge_runtime.actors.storage_operations import Options, StorageOperations, count, option, promised
from edge_runtime.metering.quantities import ROWS_READ, ROWS_WRITTEN
from edge_runtime.promise import Promise
from edge_runtime.workers.js_object import JsException

_NO_SQL: Final = (
    "SQL is not enabled for this Durable Object class. To enable it, change `new_classes` to `new_sqlite_classes` "
    "within the 'migrations' field in your wrangler.jsonc or wrangler.toml file. Note that this change cannot be made "
    "after the class is already deployed to production."
)
_NO_SQL_HERE: Final = "storage.sql is not available in this runtime; storage.kv reads and writes entries without await"
_NO_RECOVERY: Final = "This Durable Object's storage back-end does not implement point-in-time recovery."
_LIST_ENDED: Final = (
    "kv.list() iterator was invalidated because a new call to kv.list() was started. Only one kv.list() iterator can "
    "exist at a time."
)
_NO_DELETE_ALL: Final = "Cannot call deleteAll() within a transaction"

_Pair = list[Any]
CriticalSection = Callable[[Callable[[], Awaitable[Any]]], Promise[Any]]


class ActorStorage(StorageOperations):
    """`ctx.storage`.

    `critical_section` runs an async function with other events held back (blockConcurrencyWhile). `sqlite` is False
    for classes made with `new_classes`: smaller limits, no `kv` and no `transactionSync`.
    """

    def __init__(
        self,
        context: ActorContext,
        critical_section: CriticalSection,
        *,
        sqlite: bool = True,
        delete_all_deletes_alarm: bool = True,
    ) -> None:
        super().__init__(Overlay(context), context.clock, sqlite=sqlite)
        self._context = context
        self._critical_section = critical_section
        self._delete_all_deletes_alarm = delete_all_deletes_alarm
        self._alarm_running = False
        self._kv = SyncKv(self)
        self.alarm_refusal: Exception | None = None
        """Why setAlarm is refused; None where it is not."""
        self.also_delete_all: Callable[[], None] | None = None
        """Called with deleteAll: what belongs to the object and lies elsewhere goes too."""

    @property
    def kv(self) -> SyncKv:
        """The same entries with results instead of promises."""
        self._require_sqlite()
        return self._kv

    @property
    def sql(self) -> NoReturn:
        """JsException: there is no SQL storage here."""
        self._require_sqlite()
        raise JsException(_NO_SQL_HERE)

    @promised
    def deleteAll(self, options: Options = None, **more: Any) -> None:
        """Delete every entry, and the alarm too unless the flag delete_all_preserves_alarm says otherwise."""
        self._begin("deleteAll", ROWS_WRITTEN)
        if self._overlay.in_transaction:
            raise JsException(_NO_DELETE_ALL)
        forget = self._delete_all_deletes_alarm or self._context.due_ms is None
        self._overlay.clear(confirmed=not option(options, more, "allowUnconfirmed"), forget=forget)
        if self.also_delete_all is not None:
            self.also_delete_all()

    delete_all = deleteAll

    def sync(self) -> Promise[None]:
        """Resolves when everything written before this call is durable, unconfirmed writes included."""
        if (refusal := self._context.refusal) is not None:
            return Promise.rejected(refusal.again())
        return self._overlay.when_durable()

    def transaction(self, closure: Callable[[Transaction], Any], options: Options = None) -> Promise[Any]:
        """Run `closure(txn)` with other events held back; its writes become durable together.

        If it raises, its writes are dropped and the error is passed on; the object lives on.
        """
        promise: Promise[Any] = Promise()

        async def run() -> tuple[Any, BaseException | None]:
            txn = Transaction(self, self._overlay.begin())
            commit = False
            try:
                result = closure(txn)
                if isinstance(result, Awaitable):
                    result = await result
                commit = True
            except Exception as error:
                return None, error
            finally:
                txn.finish(commit=commit)
            return result, None

        def settle(ran: Promise[Any]) -> None:
            result, error = (None, ran.error) if ran.error is not None else ran.result()
            if error is not None:
                promise.reject(error)
            else:
                promise.resolve(result)

        self._critical_section(run).add_done_callback(settle)
        return promise

    def transactionSync(self, closure: Callable[[], Any]) -> Any:
        """Call `closure()`, which must not be async; if it raises, what it wrote is dropped. Nestable."""
        self._require_sqlite()
        layer = self._overlay.begin()
        commit = False
        try:
            result = closure()
            if isinstance(result, Awaitable):
                if callable(close := getattr(result, "close", None)):
                    close()
                raise TypeError("transactionSync() takes a function that is not async")
            commit = True
        finally:
            self._overlay.end(layer, commit=commit)
        return result

    transaction_sync = transactionSync

    def getCurrentBookmark(self) -> Promise[str]:
        """Point-in-time recovery is not part of this storage; this and the three others reject, as in workerd."""
        return Promise.rejected(JsException(_NO_RECOVERY))

    def getBookmarkForTime(self, timestamp: object) -> Promise[str]:
        return Promise.rejected(JsException(_NO_RECOVERY))

    def onNextSessionRestoreBookmark(self, bookmark: str) -> Promise[str]:
        return Promise.rejected(JsException(_NO_RECOVERY))

    def waitForBookmark(self, bookmark: str) -> Promise[None]:
        return Promise.rejected(JsException(_NO_RECOVERY))

    def begin_alarm(self) -> None:
        """The alarm's handler starts: until it sets another, there is none."""
        self._alarm_running = True
        self._overlay.alarm_written = False

    def end_alarm(self) -> bool:
        """The handler has ended; returns whether it set or deleted the alarm."""
        self._alarm_running = False
        return self._overlay.alarm_written

    def _alarm(self) -> int | None:
        changed, due_ms = self._overlay.transaction_alarm()
        if changed:
            return due_ms
        if self._alarm_running and not self._overlay.alarm_written:
            return None
        return self._context.scheduled_ms

    def _require_alarms(self) -> None:
        if self.alarm_refusal is not None:
            raise self.alarm_refusal

    def _require_sqlite(self) -> None:
        if not self._sqlite:
            raise JsException(_NO_SQL)


class Transaction(StorageOperations):
    """`txn` of `storage.transaction`; of no use outside its closure."""

    def __init__(self, storage: ActorStorage, layer: Layer) -> None:
        super().__init__(storage._overlay, storage._clock, sqlite=storage._sqlite)
        self._storage = storage
        self._layer: Layer | None = layer
        self._rolled_back = False

    def rollback(self) -> None:
        """Drop what the transaction wrote; after that it takes no more operations."""
        if not self._rolled_back:
            self._begin("rollback", ROWS_READ, 0)
            self.finish(commit=False)
            self._rolled_back = True

    def deleteAll(self, options: Options = None, **more: Any) -> Promise[None]:
        return Promise.rejected(JsException(_NO_DELETE_ALL))

    delete_all = deleteAll

    def finish(self, *, commit: bool) -> None:
        """End the transaction, unless a rollback has."""
        layer, self._layer = self._layer, None
        if layer is not None:
            self._overlay.end(layer, commit=commit)

    def _begin(self, operation: str, counted: str, rows: int = 1) -> None:
        if self._rolled_back:
            raise JsException(f"Cannot {operation}() on rolled back transaction")
        if self._layer is None:
            raise JsException(
                f"Cannot call {operation}() on transaction that has already committed: did you move `txn` outside of "
                "the closure?"
            )
        super()._begin(operation, counted, rows)

    def _require_alarms(self) -> None:
        self._storage._require_alarms()

    def _alarm(self) -> int | None:
        return self._storage._alarm()


class SyncKv:
    """`ctx.storage.kv`."""

    __slots__ = ("_lists", "_storage")

    def __init__(self, storage: ActorStorage) -> None:
        self._storage = storage
        self._lists = 0

    def get(self, key: str) -> Any:
        self._storage._begin("get", ROWS_READ)
        return self._storage.read(key)

    def put(self, key: str, value: Any) -> None:
        self._storage._begin("put", ROWS_WRITTEN)
        self._storage.write(key, value)

    def delete(self, key: str) -> bool:
        self._storage._begin("delete", ROWS_WRITTEN)
        return self._storage.remove(key)

    def list(self, options: Mapping[str, Any] | None = None, **more: Any) -> Iterator[list[Any]]:
        """[key, value] pairs as they are now, whatever is written while iterating. The next call ends this one."""
        self._storage._begin("list", ROWS_READ)
        pairs = [[key, value] for key, value in self._storage.entries({**(options or {}), **more})]
        if len(pairs) > 1:
            count(ROWS_READ, len(pairs) - 1)
        self._lists += 1
        return self._iterate(pairs, self._lists)

    def _iterate(self, pairs: Iterable[_Pair], number: int) -> Iterator[_Pair]:
        for pair in pairs:
            if number != self._lists:
                raise JsException(_LIST_ENDED)
            yield pair
