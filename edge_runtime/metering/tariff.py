"""Tariffs: what a provider charges for which of the ledger's quantities, as data.

A tariff is a TOML file. Those of `shipped()` come with the package; any other is named by its path. Numbers are read
as decimals, never as binary fractions.

    name = "cloudflare"
    title = "Cloudflare Workers, Paid plan"
    source = "https://..."              # where the prices are published
    date = 2026-11-21                   # when they were read there
    currency = "USD"
    monthly_fee = 5                     # for each calendar month with usage; optional
    notes = ["what the figures leave out"]

    [[meters]]
    name = "Workers requests"
    unit = "requests"
    included = 10_000_000               # in each calendar month (UTC); optional
    price = 0.30
    per = 1_000_000                     # units that the price is for; optional, 1

    [[meters.counts]]                   # what the meter adds up
    quantity = "events"                 # events, cpu_us, wall_us, or of `metering.quantities`
    products = ["worker"]               # of events of these products; optional, all
    kinds = ["fetch", "scheduled"]      # and of these kinds, "startup" is the script's import; optional, all
    except_names = ["*.constructor"]    # but not of handlers whose name matches one of these; optional
    factor = 1                          # billed units for one of the quantity; optional
"""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from edge_runtime.config.decode import decode
from edge_runtime.config.model import Where
from edge_runtime.config.wording import nearest, quoted, shown
from edge_runtime.errors import ConfigError, UsageError
from edge_runtime.event import EventKind
from edge_runtime.limits import CONFIG_BYTES_MAX
from edge_runtime.metering.ledger import STARTUP, Product
from edge_runtime.metering.quantities import QUANTITIES

_SUFFIX: Final = ".toml"

COUNTED: Final = ("events", "cpu_us", "wall_us", *QUANTITIES)
"""What a meter can count."""

KINDS: Final = (*EventKind, STARTUP)
"""The kinds of the ledger's rows."""

_AMOUNT_MAX: Final = 10**15
_PLACES: Final = 18


class Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of the ledger that a meter counts, and which of their quantities."""

    quantity: str
    products: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    except_names: tuple[str, ...] = ()
    factor: Decimal = Decimal(1)

    def covers(self, product: str, kind: str, name: str) -> bool:
        if self.products and product not in self.products:
            return False
        if self.kinds and kind not in self.kinds:
            return False
        return not any(fnmatchcase(name, pattern) for pattern in self.except_names)


class Meter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    unit: str
    price: Decimal
    counts: tuple[Count, ...]
    per: int = 1
    included: Decimal = Decimal(0)


class Tariff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    title: str
    source: str
    date: date
    currency: str
    meters: tuple[Meter, ...]
    monthly_fee: Decimal = Decimal(0)
    notes: tuple[str, ...] = ()


def shipped() -> tuple[str, ...]:
    """Names of the tariffs that come with the package."""
    folder = resources.files(__package__) / "tariffs"
    return tuple(sorted(file.name.removesuffix(_SUFFIX) for file in folder.iterdir() if file.name.endswith(_SUFFIX)))


def load_tariff(name: str) -> Tariff:
    """A shipped tariff by its name, or the file of that path.

    Raises:
        UsageError: there is neither.
        ConfigError: the file is wrong; says where in it, what was found and what is allowed.
    """
    if name in shipped():
        return parse_tariff((resources.files(__package__) / "tariffs" / f"{name}{_SUFFIX}").read_bytes(), name)
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"no tariff {quoted(name)}: allowed are {', '.join(shipped())}, or the path of a tariff file")
    if path.stat().st_size > CONFIG_BYTES_MAX:
        raise ConfigError(name, "", f"{path.stat().st_size} bytes", f"a tariff of at most {CONFIG_BYTES_MAX} bytes")
    return parse_tariff(path.read_bytes(), name)


def parse_tariff(content: bytes, file: str) -> Tariff:
    """Read a tariff; `file` is its name in errors. Raises ConfigError."""
    where = Where(file)
    try:
        raw = tomllib.loads(content.decode(), parse_float=Decimal)
    except UnicodeDecodeError as error:
        raise ConfigError(file, "", f"bytes that are no UTF-8 at offset {error.start}", "TOML in UTF-8") from None
    except ValueError as error:  # of TOML, or of numbers with thousands of digits
        raise ConfigError(file, "", f"what is no TOML: {error}", "a tariff file in TOML") from None
    tariff: Tariff = decode(raw, Tariff, where)
    _check(tariff, where)
    return tariff


def _check(tariff: Tariff, where: Where) -> None:
    _amount(tariff.monthly_fee, where / "monthly_fee")
    if not tariff.meters:
        raise ConfigError(where.file, "meters", "an empty list", "at least one meter")
    seen: set[str] = set()
    for index, meter in enumerate(tariff.meters):
        at = where / "meters" / index
        if meter.name in seen:
            raise ConfigError(at.file, (at / "name").at, f"{quoted(meter.name)} twice", "one meter of each name")
        seen.add(meter.name)
        _amount(meter.price, at / "price")
        _amount(meter.included, at / "included")
        if not 1 <= meter.per <= _AMOUNT_MAX:
            raise ConfigError(at.file, (at / "per").at, shown(meter.per), f"a whole number from 1 to {_AMOUNT_MAX}")
        if not meter.counts:
            raise ConfigError(at.file, (at / "counts").at, "an empty list", "at least one quantity to count")
        for number, count in enumerate(meter.counts):
            _check_count(count, at / "counts" / number)


def _check_count(count: Count, at: Where) -> None:
    _one_of(count.quantity, COUNTED, at / "quantity")
    for index, product in enumerate(count.products):
        _one_of(product, tuple(Product), at / "products" / index)
    for index, kind in enumerate(count.kinds):
        _one_of(kind, KINDS, at / "kinds" / index)
    _amount(count.factor, at / "factor")


def _one_of(value: str, allowed: tuple[str, ...], at: Where) -> None:
    if value not in allowed:
        meant = nearest(value, allowed)
        hint = f" (did you mean {quoted(meant)}?)" if meant else ""
        raise ConfigError(
            at.file, at.at, f"the string {quoted(value)}{hint}", f"one of {', '.join(map(quoted, allowed))}"
        )


def _amount(value: Decimal, at: Where) -> None:
    exponent = value.as_tuple().exponent
    if (
        not value.is_finite()
        or value < 0
        or value > _AMOUNT_MAX
        or not isinstance(exponent, int)
        or exponent < -_PLACES
    ):
        allowed = f"a number from 0 to {_AMOUNT_MAX} with at most {_PLACES} decimal places"
        raise ConfigError(at.file, at.at, f"the number {value}", allowed)
