"""Whether an isolate was used, as it tells the supervisor with each answer to a ping."""

import pytest

from edge_runtime.config.model import WorkerLimits
from edge_runtime.event import EventKind
from edge_runtime.isolate.events.lifecycle import IsolateEvents
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.workers.websocket_recipient import SocketFlags


class Charges:
    def charge_event(self, *what):
        pass


class StoppedClock:
    def now_ms(self):
        return 0


@pytest.fixture
def events(nursery):
    return IsolateEvents(
        nursery,
        TrioFlavour(),
        StoppedClock(),
        Charges(),
        None,
        WorkerLimits(cpu_ms=1000, subrequests=1, blocked_ms=1000),
        SocketFlags(),
    )


async def test_an_event_that_is_over_by_the_next_ping_counts_as_use_once(events):
    assert not events.was_used()
    events.end(events.begin(EventKind.FETCH, "Default.fetch"))
    assert events.open == 0
    assert events.was_used()
    assert not events.was_used()
