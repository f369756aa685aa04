"""Tariff files: those that are shipped are sound, and a wrong one is answered with the place of what is wrong."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from edge_runtime.errors import ConfigError, UsageError
from edge_runtime.metering.tariff import load_tariff, parse_tariff, shipped

GOOD = """
name = "mine"
title = "Mine"
source = "https://example.com/prices"
date = 2026-11-21
currency = "EUR"

[[meters]]
name = "Requests"
unit = "requests"
price = 0.1
per = 1000
[[meters.counts]]
quantity = "events"
"""


@pytest.mark.parametrize("name", ["cloudflare", "cloudflow", "lambda-durable"])
def test_shipped_tariffs_name_themselves_their_source_and_its_date(name):
    assert name in shipped()
    tariff = load_tariff(name)
    assert tariff.name == name
    assert tariff.source.startswith("https://")
    assert tariff.date <= datetime.date(2026, 11, 30)


def test_prices_are_read_as_decimals(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    (meter,) = load_tariff(str(path)).meters
    assert meter.price == Decimal("0.1")
    assert (meter.per, meter.included) == (1000, 0)


def test_unknown_tariff_names_those_there_are(tmp_path):
    with pytest.raises(UsageError, match=r'no tariff "azure": allowed are cloudflare, cloudflow, lambda-durable, or'):
        load_tariff("azure")


@pytest.mark.parametrize(
    ("old", "new", "at", "found", "allowed"),
    [
        ('name = "mine"', "", "name", "nothing in a table", 'the key "name" is required'),
        ('currency = "EUR"', "currency = 5", "currency", "the number 5", "a string"),
        ("date = 2026-11-21", 'date = "soon"', "date", 'the string "soon"', "date"),
        ('unit = "requests"', 'unti = "requests"', "meters[0].unti", 'did you mean "unit"?', '"unit"'),
        ("price = 0.1", 'price = "cheap"', "meters[0].price", 'the string "cheap"', "number"),
        ("price = 0.1", "price = -0.1", "meters[0].price", "the number -0.1", "a number from 0"),
        ("price = 0.1", "price = nan", "meters[0].price", "NaN", "a number from 0"),
        ("price = 0.1", "price = 1\nincluded = -1", "meters[0].included", "the number -1", "a number from 0"),
        ("price = 0.1", "price = 1e99", "meters[0].price", "the number 1E+99", "from 0 to 1000000000000000 "),
        ("price = 0.1", "price = 1e-99", "meters[0].price", "the number 1E-99", "at most 18 decimal places"),
        ("per = 1000", f"per = {'9' * 5000}", "", "no TOML", "TOML"),
        ("per = 1000", "per = 1.5", "meters[0].per", "the number 1.5", "a whole number"),
        ("per = 1000", "per = 0", "meters[0].per", "the number 0", "a whole number from 1"),
        ('quantity = "events"', 'quantity = "event"', "meters[0].counts[0].quantity", 'mean "events"?', '"waits"'),
        (
            'quantity = "events"',
            'quantity = "events"\nkinds = ["fetch", "http"]',
            "meters[0].counts[0].kinds[1]",
            'the string "http"',
            '"startup"',
        ),
        (
            'quantity = "events"',
            'quantity = "events"\nproducts = ["objects"]',
            "meters[0].counts[0].products[0]",
            'mean "object"?',
            '"workflow"',
        ),
        ("[[meters.counts]]\nquantity", "counts = []\nquantity", "meters[0].quantity", "unknown key", "counts"),
        ('title = "Mine"', "title = Mine", "", "no TOML", "TOML"),
    ],
)  # fmt: skip
def test_wrong_tariff_is_answered_with_file_place_found_and_allowed(old, new, at, found, allowed):
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse_tariff(GOOD.replace(old, new, 1).encode(), "mine.toml")
    error = caught.value
    assert (error.file, error.at) == ("mine.toml", at)
    assert found in error.found
    assert allowed in error.allowed


def test_meter_must_be_there_once_and_count_something():
    head, _, meter = GOOD.partition("[[meters]]")
    for text, at in [
        (f"{head}meters = []", "meters"),
        (f"{GOOD}[[meters]]{meter}", "meters[1].name"),
        (f"{GOOD.partition('[[meters.counts]]')[0]}counts = []", "meters[0].counts"),
    ]:
        with pytest.raises(ConfigError) as caught:
            parse_tariff(text.encode(), "mine.toml")
        assert caught.value.at == at


def test_bytes_that_are_no_text_are_refused():
    with pytest.raises(ConfigError, match="no UTF-8 at offset 1"):
        parse_tariff(b"a\xff", "mine.toml")
