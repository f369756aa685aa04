"""Active time of objects: events at the same time count once, and nothing while no event is open."""

import pytest

from edge_runtime.event import EventContext, EventKind
from edge_runtime.isolate.events.activity import ObjectActivity
from edge_runtime.metering.meter import Meter
from edge_runtime.metering.quantities import ACTIVE_US


class Charges:
    """A ledger that adds up active microseconds by handler."""

    def __init__(self):
        self.active_us = {}

    def charge(self, kind, name, cpu_ns, wall_ms, outcome, quantities, *, product, events):
        assert (cpu_ns, events, product) == (0, 0, "object")
        self.active_us[name] = self.active_us.get(name, 0) + quantities[ACTIVE_US]


@pytest.fixture
def charges():
    return Charges()


@pytest.fixture
def activity(charges):
    return ObjectActivity(charges)


def begun(activity, actor, name, at_s):
    event = EventContext(EventKind.RPC, name, None, None, actor, Meter())
    event.meter.started_s = float(at_s)
    activity.begin(event)
    return event


def test_events_one_after_the_other_are_charged_their_own_time(activity, charges):
    for start in (0, 10):
        event = begun(activity, "object", "A.get", start)
        activity.end(event, start + 3.0)
        assert event.meter.quantities[ACTIVE_US] == 3_000_000
    assert charges.active_us == {}


def test_events_at_the_same_time_count_once_and_for_the_first(activity, charges):
    first, second = begun(activity, "object", "A.first", 0), begun(activity, "object", "A.second", 2)
    other = begun(activity, "another", "A.second", 2)
    activity.end(first, 3.0)
    activity.end(second, 5.0)
    activity.end(other, 5.0)
    assert charges.active_us == {"A.first": 5_000_000}
    assert ACTIVE_US not in second.meter.quantities
    assert other.meter.quantities[ACTIVE_US] == 3_000_000


def test_open_events_are_charged_as_time_goes_by(activity, charges):
    event = begun(activity, "object", "A.long", 0)
    activity.charge(4.0)
    activity.charge(5.0)
    assert charges.active_us == {"A.long": 5_000_000}
    activity.end(event, 6.0)
    assert event.meter.quantities[ACTIVE_US] == 1_000_000
    activity.charge(9.0)
    assert charges.active_us == {"A.long": 5_000_000}
