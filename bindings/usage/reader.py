"""`env.<binding>`: the ledger as a script reads it.

Both methods return a Promise and take their options as one trailing dict, as keyword arguments, or both:

- `since`, `until`: an instant as milliseconds since the epoch, a datetime (naive: UTC) or ISO 8601. Counted are the
  hours from the one that `since` lies in up to those that begin before `until`. By default this calendar month (UTC).
- `groupBy` (or `group_by`): a name or a list of names of `metering.grouping.GROUPINGS`.
- `worker`: where the binding's scope is "all", one worker's usage only.
- `tariff`, of `bill` only: its name; by default "cloudflare".

Usage is at most LEDGER_FLUSH_S old. Billed: the CPU time of reading it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from edge_runtime.event import require_event
from edge_runtime.metering.bill import bill_document, make_bill
from edge_runtime.metering.grouping import GROUPINGS, group_rows, hour_start_ms, month_start_ms
from edge_runtime.metering.ledger import UsageRow, read_usage
from edge_runtime.metering.tariff import Tariff, load_tariff, shipped
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock
from edge_runtime.store.api import Store
from edge_runtime.workers.js_values import JsArray, JsDict

_DEFAULT_TARIFF: Final = "cloudflare"
_BY_HANDLER: Final = ("worker", "product", "kind", "handler")
_INSTANT_MAX_MS: Final = 8_640_000_000_000_000
"""As of JavaScript's Date. Source: ECMA-262, Time Values and Time Range."""
_OPTIONS: Final = ("since", "until", "groupBy", "worker")


class UsageReader:
    """The ledger of a data directory, or of one worker in it (`worker`)."""

    def __init__(self, store: Store, clock: Clock, tariffs: Iterable[Tariff], worker: str | None) -> None:
        self._store = store
        self._clock = clock
        self._own_tariffs = {tariff.name: tariff for tariff in tariffs}
        self._worker = worker

    def usage(self, options: Mapping[str, Any] | None = None, **named: Any) -> Promise[JsArray]:
        """What was used, as a list with one dict a group, by default a group a handler: the group's names and values,
        then events, cpu_us, wall_ms, the quantities that are not zero, and `errors` by outcome."""
        try:
            asked = _merge("usage", options, named, _OPTIONS)
            group_by = _groups("usage", asked.get("groupBy")) or _BY_HANDLER
            groups = group_rows(self._rows("usage", asked), group_by)
            return Promise.resolved(JsArray(_shown(group_by, key, row) for key, row in groups.items()))
        except (TypeError, ValueError, OverflowError) as error:
            return Promise.rejected(error)

    def bill(self, options: Mapping[str, Any] | None = None, **named: Any) -> Promise[JsDict]:
        """What it costs: {tariff, currency, cost, list_cost, fee, months, lines, groups, ...}, amounts and quantities
        as decimal strings. `cost` is after the month's allotments, `list_cost` without them."""
        try:
            asked = _merge("bill", options, named, (*_OPTIONS, "tariff"))
            tariff = self._tariff(asked.get("tariff", _DEFAULT_TARIFF))
            bill = make_bill(tariff, self._rows("bill", asked), _groups("bill", asked.get("groupBy")))
            return Promise.resolved(_scriptable(bill_document(bill)))
        except (TypeError, ValueError, OverflowError) as error:
            return Promise.rejected(error)

    @property
    def tariffs(self) -> list[str]:
        """The names that `bill` knows."""
        return sorted([*shipped(), *self._own_tariffs])

    def _tariff(self, name: object) -> Tariff:
        if isinstance(name, str) and name in self._own_tariffs:
            return self._own_tariffs[name]
        if name not in shipped():
            raise ValueError(f"bill() knows no tariff {name!r}; there are {', '.join(self.tariffs)}")
        return load_tariff(str(name))

    def _rows(self, call: str, asked: Mapping[str, Any]) -> list[UsageRow]:
        require_event(f"the usage binding's {call}()")
        worker = asked.get("worker", self._worker)
        if not isinstance(worker, str | None):
            raise TypeError(f"{call}() takes the name of a worker as a string, not {type(worker).__name__}")
        if self._worker is not None and worker != self._worker:
            raise ValueError(
                f"{call}() of worker {worker!r} from worker {self._worker!r}: this binding reads its own usage only; "
                'set "scope": "all" in the section usage to read that of others'
            )
        since = asked.get("since")
        since_ms = month_start_ms(self._clock.now_ms()) if since is None else hour_start_ms(_instant_ms("since", since))
        until_ms = None if asked.get("until") is None else _instant_ms("until", asked["until"])
        if until_ms is not None and until_ms <= since_ms:
            raise ValueError(f"{call}() from {since_ms} until {until_ms} ms: until must be later than since")
        with self._store.snapshot() as snapshot:
            return read_usage(snapshot, worker=worker, from_ms=since_ms, to_ms=until_ms)


def _merge(call: str, options: object, named: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(options, Mapping | None):
        raise TypeError(f"{call}() takes its options as a dict or as keyword arguments, not {type(options).__name__}")
    merged = {
        "groupBy" if name == "group_by" else name: value
        for name, value in {**(options or {}), **named}.items()
        if value is not None
    }
    for name in merged:
        if name not in known:
            raise TypeError(f"{call}() has no option {name!r}; it has {', '.join(known)}")
    return merged


def _groups(call: str, given: object) -> tuple[str, ...]:
    chosen = (given,) if isinstance(given, str) else given if isinstance(given, list | tuple) else ()
    if given is not None and chosen == () and given not in ([], ()):
        raise TypeError(f"{call}() takes groupBy as a name or a list of names, not {type(given).__name__}")
    for name in chosen:
        if name not in GROUPINGS:
            raise ValueError(f"{call}() cannot group by {name!r}; there are {', '.join(GROUPINGS)}")
    return tuple(dict.fromkeys(chosen))


def _instant_ms(option: str, given: object) -> int:
    if isinstance(given, str):
        try:
            given = datetime.fromisoformat(given)
        except ValueError:
            raise ValueError(f'{option}: {given!r} is no instant in ISO 8601 such as "2026-11-01"') from None
    if isinstance(given, datetime):
        return int((given if given.tzinfo is not None else given.replace(tzinfo=UTC)).timestamp() * 1000)
    if isinstance(given, int | float) and not isinstance(given, bool):
        if not abs(given) <= _INSTANT_MAX_MS:
            raise ValueError(f"{option}: {given!r} is no instant; allowed are {_INSTANT_MAX_MS} ms around the epoch")
        return int(given)
    raise TypeError(
        f"{option}: milliseconds since the epoch, a datetime or ISO 8601 text is wanted, not {type(given).__name__}"
    )


def _shown(group_by: Sequence[str], key: Sequence[str], row: UsageRow) -> JsDict:
    return JsDict(
        {
            **dict(zip(group_by, key, strict=True)),
            "events": row.events,
            "cpu_us": row.cpu_us,
            "wall_ms": row.wall_ms,
            **row.quantities,
            "errors": JsDict(row.errors),
        }
    )


def _scriptable(value: Any) -> Any:
    if isinstance(value, dict):
        return JsDict({name: _scriptable(item) for name, item in value.items()})
    return JsArray(_scriptable(item) for item in value) if isinstance(value, list) else value
