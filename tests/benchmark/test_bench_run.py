"""A run of the bench: it goes on past what fails, and keeps what there is when it is interrupted."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from types import ModuleType

import pytest

import bench.__main__ as command
from bench.aligned import aligned
from bench.figure import Figure
from bench.time_limit import TimeOver, time_limit

FINE = [Figure("a fine figure", 100, "us", bound=60), Figure("a ratio", 0.5, "x", bound=1)]


@pytest.fixture
def asking(monkeypatch, tmp_path, capsys):
    """asking(name=[what it finds, or raises], ...): run all of these questions; exit status, output, kept JSON."""

    @contextmanager
    def yardstick():
        class Steady:
            def measure(self):
                return 740.0

        yield Steady()

    monkeypatch.setattr(command, "yardstick", yardstick)

    def ask(*options, **questions):
        for name, found in questions.items():
            module = ModuleType(name)
            module.run = lambda found=found: map(give, found)
            monkeypatch.setitem(sys.modules, f"bench.{name}", module)
        monkeypatch.setattr(command, "QUESTIONS", tuple(questions))
        status = command.main(options, tmp_path)
        kept = sorted(tmp_path.glob("*.json"))
        return status, capsys.readouterr(), json.loads(kept[-1].read_text()) if kept else None

    return ask


def give(one):
    if isinstance(one, BaseException):
        raise one
    return one


def lines_of(printed):
    """Lines of the output, whatever the columns' widths."""
    return [" ".join(line.split()) for line in printed.out.splitlines()]


def wait_for_ever():
    while True:
        time.sleep(0.01)


def test_question_that_fails_does_not_keep_the_others_from_being_asked(asking):
    status, printed, kept = asking(fine=FINE, broken=[FINE[0], RuntimeError("no disk\nat all")], last=FINE)
    assert status == 1
    assert [one["question"] for one in kept["figures"]] == ["fine", "fine", "broken", "last", "last"]
    assert [one["failure"] for one in kept["questions"]] == ["", "RuntimeError: no disk\nat all", ""]
    summary = lines_of(printed)
    assert "fine a fine figure 100.00 us 50.00 at most 60 reached" in summary
    assert "broken not answered: RuntimeError: no disk" in summary
    assert "3 questions in 0 min; 5 of 5 bounds reached" in summary
    assert "not answered: broken" in printed.err


def test_bound_that_is_missed_shows_in_the_exit_status(asking):
    status, printed, _ = asking(slow=[Figure("slow", 200, "us", bound=60)], fine=FINE)
    assert status == 1
    assert "slow slow 200.00 us 100.00 at most 60 MISSED" in lines_of(printed)
    assert asking(fine=FINE)[0] == 0


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), BaseExceptionGroup("trio's", [KeyboardInterrupt()])])
def test_interrupted_run_keeps_what_it_found(asking, interrupt):
    status, printed, kept = asking(fine=FINE, long=[FINE[0], interrupt], never=FINE)
    assert status == 130
    assert [one["question"] for one in kept["figures"]] == ["fine", "fine", "long"]
    assert [one["failure"] for one in kept["questions"]] == ["", "interrupted"]
    assert "a fine figure" in printed.out


def test_earlier_run_is_shown_beside_this_one(asking, tmp_path):
    asking(fine=FINE)
    earlier = next(tmp_path.glob("*.json"))
    _, printed, _ = asking("--against", str(earlier), fine=[Figure("a fine figure", 50, "us", bound=60)])
    assert "fine a fine figure 50.00 25.00 us -50% scaled reached" in lines_of(printed)


def test_what_takes_too_long_is_ended_where_it_waits():
    with pytest.raises(TimeOver, match=r"not done within 0\.05 s"), time_limit(60), time_limit(0.05):
        wait_for_ever()


def test_long_cells_are_cut_except_the_last():
    lines = list(aligned([("head", "", "note"), ("x" * 100, "1.0", "y" * 100), ("short", "10.0")], right=(1,)))
    assert lines[1].startswith("x" * 95 + "…   1.0  " + "y" * 100)
    assert lines[2].split() == ["short", "10.0"]
