"""Who is held to have ended an isolate, and how long it is left alone."""

from __future__ import annotations

import pytest

from edge_runtime.limits import ACTOR_DEATHS_KEPT
from edge_runtime.supervisor.culprits import Culprits, Suspect, blame

RUN = Suspect("workflow", "flow", 7)
STEPS = [Suspect("step", f"flow/{number}", number) for number in (1, 2)]
CALL = Suspect("rpc", "Counter.increment", 8)
ALARM = Suspect("alarm", "Counter.alarm", 8)
FETCH = Suspect("fetch", "Default.fetch", 0)


@pytest.mark.parametrize(
    ("suspects", "doubtful", "certain", "contained"),
    [
        ([], False, False, False),
        ([RUN], False, True, True),
        ([RUN, RUN], False, True, True),
        ([RUN], True, False, True),
        ([RUN, *STEPS], False, False, True),
        ([CALL], False, True, True),
        ([CALL], True, False, False),
        ([CALL, RUN], False, False, False),
        ([ALARM], True, False, True),
        ([FETCH], False, True, False),
        ([FETCH, STEPS[0]], False, False, False),
    ],
)
def test_others_go_on_where_what_may_have_ended_the_isolate_is_put_off_or_bounded(
    suspects, doubtful, certain, contained
):
    found = blame(suspects, doubtful=doubtful)
    assert (found.certain, found.contained) == (certain, contained)


def test_each_actor_is_left_alone_longer_with_each_death():
    culprits = Culprits()

    def died(now_s, *suspects):
        deaths = culprits.ended(blame(suspects, doubtful=False), "it exited", now_s, now_s * 1000)
        return [(death.actor, death.until_ms - death.at_ms, death.alone, death.certain) for death in deaths]

    assert died(0, RUN) == [(7, 0, True, True)]
    assert died(1, RUN, FETCH, CALL) == [(7, 500, False, False), (8, 0, False, False)]
    assert died(2, RUN) == [(7, 1000, True, True)]
    assert [(death.actor, death.at_ms) for death in culprits.deaths] == [(8, 1000), (7, 2000)]
    assert died(1000, RUN) == [(7, 0, True, True)]
    culprits.forget()
    assert culprits.deaths == ()
    assert died(1001, CALL) == [(8, 0, True, True)]


def test_of_very_many_actors_the_last_ones_are_known():
    culprits = Culprits()
    for number in range(ACTOR_DEATHS_KEPT + 10):
        culprits.ended(blame([Suspect("workflow", "flow", number)], doubtful=False), "", number, number)
    assert [death.actor for death in culprits.deaths] == list(range(10, ACTOR_DEATHS_KEPT + 10))
