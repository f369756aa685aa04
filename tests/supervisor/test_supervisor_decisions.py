"""The pure parts: routing, peeking, heartbeat, backoff."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.config.model import Route
from edge_runtime.limits import PROCESS_THREADS_MAX
from edge_runtime.routing import RoutingTable
from edge_runtime.supervisor.backoff import CrashBackoff
from edge_runtime.supervisor.heartbeat import Heartbeat, Seen
from edge_runtime.supervisor.peek import Head, Peeked, look

TABLE = RoutingTable(
    {
        "any": [Route("*", "/any/")],
        "exact": [Route("a.com", "/login", exact=True)],
        "deep": [Route("a.com", "/api/v2/")],
        "api": [Route("a.com", "/api/")],
        "site": [Route("a.com", "/")],
        "wild": [Route("*.a.com", "/")],
        "wilder": [Route("*.b.a.com", "/")],
        "rest": [],
    }
)


@pytest.mark.parametrize(
    ("host", "path", "worker"),
    [
        ("a.com", "/", "site"),
        ("A.com.", "/x", "site"),
        ("a.com:8080", "/api/v1?x=/login", "api"),
        ("a.com", "/api/v2/x", "deep"),
        ("a.com", "/login", "exact"),
        ("a.com", "/login?next=1", "exact"),
        ("a.com", "/login/x", "site"),
        ("a.com", "/any/x", "site"),
        ("x.a.com", "/", "wild"),
        ("x.b.a.com", "/", "wilder"),
        ("xa.com", "/", "rest"),
        ("other.com", "/any/x", "any"),
        ("api.localhost", "/", "api"),
        ("api.localhost:8787", "/", "api"),
        ("localhost", "/", "rest"),
        ("[::1]:8787", "/", "rest"),
        ("", "/", "rest"),
    ],
)
def test_most_specific_route_wins(host, path, worker):
    assert TABLE.choose(host, path) == worker


def test_worker_that_is_alone_takes_everything():
    table = RoutingTable({"w": [Route("a.com", "/")]})
    assert table.sole == table.choose("b.com", "/x") == "w"


def test_without_a_single_routeless_worker_the_rest_belongs_to_nobody():
    assert RoutingTable({"a": [], "b": []}).choose("x.com", "/") is None
    assert RoutingTable({"a": [Route("a.com", "/")], "b": [Route("b.com", "/")]}).choose("x.com", "/") is None
    assert RoutingTable({}).choose("x.com", "/") is None


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"", Peeked.INCOMPLETE),
        (b"\r\n", Peeked.INCOMPLETE),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", Head("a", "/")),
        (b"\r\nGET /p?q HTTP/1.0\nhost:  a.com:1 \n\n", Head("a.com:1", "/p?q")),
        (b"GET / HTTP/1.1\r\n\r\nHost: body\r\n", Head("", "/")),
        (b"GET / HTTP/1.1\r\nX-Host: b\r\nHost: a\r\n\r\n", Head("a", "/")),
        (b"GET http://a.com:80/x?y HTTP/1.1\r\n", Head("a.com:80", "/x?y")),
        (b"GET http://user@a.com HTTP/1.1\r\n", Head("a.com", "/")),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n", Head("a", "*")),
        (b"GET / HTTP/1.1\r\nHost: a", Peeked.INCOMPLETE),
        (b"PRI * HTTP/2.0\r\n\r\n", Peeked.HTTP2),
        (b"PRI * HT", Peeked.INCOMPLETE),
        (b"\x16\x03\x01", Peeked.TLS),
        (b"\x00", Peeked.GARBAGE),
        (b"GET / HTTP/3.0\r\n", Peeked.GARBAGE),
        (b"GET /\x00 HTTP/1.1\r\n", Peeked.GARBAGE),
        (b"no request at all\r\n", Peeked.GARBAGE),
    ],
)
def test_beginning_of_a_connection_is_recognised(data, seen):
    assert look(data) == seen


@given(st.binary(max_size=300))
def test_looking_at_anything_never_fails(data):
    look(data)


@given(st.integers(0, 60))
def test_every_beginning_of_a_request_is_incomplete_or_decided_alike(cut):
    request = b"GET /some/path?x=1 HTTP/1.1\r\nAccept: */*\r\nHost: a.com\r\n\r\n"
    assert look(request[:cut]) in (Peeked.INCOMPLETE, look(request))


IDLE = Seen()


def test_heartbeat_pings_once_and_again_after_the_answer():
    heartbeat = Heartbeat(blocked_ms=5000, cpu_ms=1000)
    assert heartbeat.beat(0, IDLE).ping
    assert not heartbeat.beat(0.5, IDLE).ping
    heartbeat.pong()
    assert heartbeat.beat(0.5, Seen(cpu_ms=900)).ping


def beats(heartbeat, count, elapsed_s, **steps_ms):
    """The beat at which the isolate is killed, and why; (count, None) if it is not. What is seen grows by the steps."""
    for number in range(count):
        seen = Seen(**{name: number * step if type(step) is float else step for name, step in steps_ms.items()})
        beat = heartbeat.beat(elapsed_s, seen)
        if beat.kill is not None:
            return number, beat.kill
    return count, None


def test_blocked_loop_is_killed_after_its_limit():
    number, reason = beats(Heartbeat(blocked_ms=5000, cpu_ms=60_000), 100, 0.5)
    assert (number, "5000 ms" in reason) == (10, True)


def test_busy_loop_is_killed_by_its_cpu_time():
    number, reason = beats(Heartbeat(blocked_ms=60_000, cpu_ms=1000), 100, 0.5, cpu_ms=500.0)
    assert (number, "limits.cpu_ms = 1000 ms" in reason) == (3, True)


def test_loop_that_computes_for_an_event_within_its_limit_is_reported_and_lives():
    heartbeat = Heartbeat(blocked_ms=5000, cpu_ms=60_000)
    event = Seen(over_ms=-10_000, event_on_loop=True)
    told = [heartbeat.beat(0.5, replace(event, loop_busy_ms=500 * number)).blocked_s for number in range(100)]
    assert [blocked_s for blocked_s in told if blocked_s] == [1.0]


def test_loop_that_computes_for_no_event_is_killed_whatever_runs_in_threads():
    number, reason = beats(
        Heartbeat(blocked_ms=5000, cpu_ms=8000), 100, 0.5, loop_cpu_ms=500.0, loop_busy_ms=500.0, over_ms=-6000
    )
    assert (number, "limits.cpu_ms = 8000 ms" in reason) == (17, True)


def test_waiting_between_computations_adds_up_until_the_loop_answers():
    number, reason = beats(Heartbeat(blocked_ms=5000, cpu_ms=60_000), 100, 0.5, loop_busy_ms=250.0)
    assert (number, "5000 ms" in reason) == (20, True)


def test_what_runs_for_no_event_is_killed_at_its_limit_and_looked_at_again_before_it(monkeypatch):
    monkeypatch.setattr("edge_runtime.supervisor.heartbeat._PROCESSORS", 4)
    heartbeat = Heartbeat(blocked_ms=5000, cpu_ms=1000)
    assert heartbeat.beat(0, Seen(burst_over_ms=-400)).next_s == pytest.approx(0.1)
    beat = heartbeat.beat(0.1, Seen(burst_over_ms=0))
    assert (beat.over_cpu, beat.in_burst) == (True, True)
    assert beat.kill == "threads that run for no event used more than limits.cpu_ms = 1000 ms of CPU"


def test_next_look_comes_with_the_cpu_time_by_which_something_is_due():
    heartbeat = Heartbeat(blocked_ms=5000, cpu_ms=1000)
    assert heartbeat.beat(0, Seen()).next_cpu_s == 1.0
    assert heartbeat.beat(0, Seen(over_ms=-300)).next_cpu_s == pytest.approx(0.4)
    assert heartbeat.beat(0, Seen(over_ms=150)).next_cpu_s == pytest.approx(0.25)
    assert heartbeat.beat(0, Seen(over_ms=150, burst_over_ms=-50)).next_cpu_s == pytest.approx(0.05)
    assert 0 < heartbeat.beat(0, Seen(burst_over_ms=-0.001)).next_cpu_s < 0.1


def test_isolate_with_too_many_threads_is_killed():
    heartbeat = Heartbeat(blocked_ms=5000, cpu_ms=1000)
    assert heartbeat.beat(0, Seen(threads=PROCESS_THREADS_MAX)).kill is None
    beat = heartbeat.beat(0.5, Seen(threads=PROCESS_THREADS_MAX + 1))
    assert beat.kill == "it has 1025 threads, and an isolate may have 1024"
    assert not beat.over_cpu


def test_time_in_which_the_supervisor_itself_stood_still_counts_in_part():
    heartbeat = Heartbeat(blocked_ms=5000, cpu_ms=1000)
    heartbeat.beat(0, IDLE)
    assert heartbeat.beat(3600, IDLE).kill is None


def test_next_look_is_no_later_than_the_limit():
    heartbeat = Heartbeat(blocked_ms=1200, cpu_ms=60_000)
    heartbeat.beat(0, IDLE)
    heartbeat.beat(0.5, IDLE)
    assert heartbeat.beat(0.5, IDLE).next_s == pytest.approx(0.2)


def test_backoff_doubles_within_the_window_and_is_forgotten_after_it():
    backoff = CrashBackoff()
    assert [backoff.crashed(number) for number in range(9)] == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.crashed(1000) == 0
    assert backoff.crashed(1001) == 0.5
    backoff.reset()
    assert backoff.crashed(1002) == 0
