import pytest

from edge_runtime.actors.gates import SECTION_DEPTH_MAX, InputGate, OutputGate
from edge_runtime.promise import Promise


def test_an_open_gate_admits_at_once():
    gate = InputGate()
    assert gate.open
    assert gate.wait_open().settled


def test_events_wait_for_the_section_and_are_admitted_in_order():
    gate, order = InputGate(), []
    section = gate.enter().result()
    for n in range(3):
        gate.wait_open().add_done_callback(lambda _, n=n: order.append(n))
    assert order == []
    section.leave()
    assert order == [0, 1, 2]
    assert gate.open


def test_sections_run_one_after_the_other_and_before_waiting_events():
    gate = InputGate()
    first = gate.enter().result()
    event = gate.wait_open()
    second, third = gate.enter(), gate.enter()
    first.leave()
    assert second.settled
    assert not third.settled
    assert not event.settled
    second.result().leave()
    third.result().leave()
    assert event.settled


def test_a_section_is_a_gate_for_what_runs_inside_it():
    gate = InputGate()
    outer = gate.enter().result()
    assert outer.open
    inner = outer.enter().result()
    assert not outer.open
    waiting = outer.wait_open()
    inner.leave()
    assert waiting.settled
    assert not gate.open
    outer.leave()
    assert gate.open


def test_nesting_has_a_bound():
    gate = InputGate()
    for _ in range(SECTION_DEPTH_MAX):
        gate = gate.enter().result()
    with pytest.raises(RuntimeError, match="nested deeper than 64"):
        gate.enter()


def test_a_broken_gate_fails_everything_that_waits_and_everything_after():
    gate, error = InputGate(), ValueError("broken")
    section = gate.enter().result()
    inside = section.enter()
    waiting = [gate.wait_open(), gate.enter(), section.wait_open()]
    gate.break_with(error)
    gate.break_with(ValueError("the first error stays"))
    for promise in (*waiting, gate.wait_open(), gate.enter(), section.enter()):
        assert promise.error is error
    assert inside.error is None
    assert not gate.open
    section.leave()
    assert not gate.open


def test_output_gate_waits_for_writes_before_the_wait_only():
    gate = OutputGate()
    assert gate.open
    assert gate.wait().settled
    first, second = Promise(), Promise()
    gate.hold(first)
    early = gate.wait()
    gate.hold(second)
    late = gate.wait()
    first.resolve(None)
    assert early.settled
    assert not late.settled
    assert not gate.open
    second.resolve(None)
    assert late.settled
    assert gate.open


def test_broken_output_gate_lets_nothing_out():
    gate, written, error = OutputGate(), Promise(), ValueError("broken")
    gate.hold(written)
    waiting = gate.wait()
    gate.break_with(error)
    written.resolve(None)
    assert waiting.error is error
    assert gate.wait().error is error
    assert not gate.open
