"""The comparison with peers: what is counted, what is skipped, and what is kept of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime

import pytest

from bench.against import Unreadable, changes, read
from bench.answer import INTERRUPTED, Answer
from bench.beside_peers import run
from bench.figure import Figure
from bench.peers import edge
from bench.peers.install import NotInstallable, node_packages, python_environment
from bench.peers.row import BUSY_OBJECT, HELLO, ONE_OBJECT, STEPS_ALONE, STEPS_TOGETHER, Row, Skipped
from bench.peers.syncs import count_syncs
from bench.results import circumstances, keep

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def row(system: str, workload: str, cpu_us: float, syncs: float | None = None) -> Row:
    return Row(system, "1.0", workload, 100, cpu_us, 50.0, 1.5, 9.0, syncs, f"{system} syncs")


def answer(*figures: Figure, rows: tuple[Row, ...] = (), skipped: tuple[Skipped, ...] = ()) -> Answer:
    return Answer("question", 61.2, (740, 720), figures, rows, skipped)


def test_results_are_kept_with_machine_commit_and_yardstick(tmp_path):
    here = circumstances(NOW)
    found = answer(
        Figure("hello", 200, "us", bound=120, yardstick_us=740),
        Figure("step", 130, "us", bound=120),
        rows=(row("edge", HELLO, 100, 0.0), row("slow & heavy", HELLO, 400), row("edge", STEPS_ALONE, 90, 1.0)),
        skipped=(Skipped("absent", "cannot be installed: npm is not installed"),),
    )
    paths = keep(tmp_path, here, [found, Answer("other", 5, (720, 720), failure=INTERRUPTED)])
    assert [path.suffix for path in paths] == [".json", ".md", ".svg"]
    assert all(path.name.startswith(f"2026-11-21T120000Z-{here.commit[:12]}") for path in paths)
    kept = json.loads(paths[0].read_text())
    assert kept["commit"] == here.commit
    assert str(os.cpu_count()) in kept["machine"]
    assert [one["cpu_us"] for one in kept["beside_peers"]] == [100, 400, 90]
    assert [(one["question"], one["scaled"], one["verdict"]) for one in kept["figures"]] == [
        ("question", 100, "reached"),
        ("question", None, "MISSED"),
    ]
    assert kept["questions"][1]["failure"] == "interrupted"
    text = paths[1].read_text()
    assert "| question | hello | 200.00 | us | 100.00 | at most 120 | reached |" in text
    assert "| question | step | 130.00 | us |  | at most 120 | MISSED |" in text
    assert "| question | 61 | 740 | 720 | answered |" in text
    assert "| other | 5 | 720 | 720 | interrupted |" in text
    assert "| edge 1.0 | 100 | 50 | 1.50 | 9.00 | 0.00 | edge syncs |" in text
    assert "| slow & heavy 1.0 | 400 | 50 | 1.50 | 9.00 | not counted | slow & heavy syncs |" in text
    assert "- skipped: absent: cannot be installed: npm is not installed" in text
    assert f"({paths[2].name})" in text
    texts = [element.text for element in ElementTree.fromstring(paths[2].read_text()).iter() if element.text]
    assert "slow & heavy" in texts
    assert "100 us, 1.5 ms, 0.00 syncs" in texts


def test_without_peers_there_is_no_plot(tmp_path):
    paths = keep(tmp_path, circumstances(NOW), [answer(Figure("hello", 1, "us"))])
    assert [path.suffix for path in paths] == [".json", ".md"]


SYNCING = """
import os, sys, time
folder = sys.argv[1]
while not os.path.exists(folder + "/begin"):
    time.sleep(0.01)
with open(folder + "/file", "w") as file:
    for _ in range(5):
        os.fsync(file.fileno())
for flags in (0, os.O_DSYNC):
    file = os.open(folder + "/file", os.O_WRONLY | flags)
    for _ in range(5):
        os.pwrite(file, b"content", 4096)
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.needs("ptrace")
def test_every_sync_and_every_write_that_syncs_is_counted(tmp_path):
    command = [sys.executable, "-c", SYNCING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def work() -> int:
            (tmp_path / "begin").touch()
            assert process.stdout.readline() == "done\n"
            return 5

        assert count_syncs([process.pid], work) == 2


@pytest.mark.needs("ptrace")
def test_own_rows_are_of_every_workload_with_its_syncs():
    rows = list(edge.rows(0.02))
    assert [one.workload for one in rows] == [HELLO, ONE_OBJECT, BUSY_OBJECT, STEPS_ALONE, STEPS_TOGETHER]
    assert all(one.cpu_us > 0 for one in rows)
    assert rows[1].syncs >= 1
    assert rows[4].syncs < 1


def test_peer_that_cannot_be_had_is_skipped_and_the_others_are_measured(monkeypatch):
    monkeypatch.setattr(edge, "rows", lambda scale: iter([row("edge", HELLO, 100)]))

    def absent(scale):
        raise NotInstallable("no such package")
        yield

    def broken(scale):
        yield row("broken", HELLO, 5)
        raise RuntimeError("it ended")

    found = list(run(1.0, {"absent": absent, "broken": broken, "fine": lambda scale: iter([row("fine", HELLO, 7)])}))
    assert [one.system for one in found] == ["edge", "absent", "broken", "broken", "fine"]
    assert [one.why for one in found if isinstance(one, Skipped)] == [
        "cannot be installed: no such package",
        "does not run here: it ended",
    ]


def test_missing_installers_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_BENCH_PEERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotInstallable, match="npm is not installed"):
        node_packages("peer", "miniflare")
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(NotInstallable, match="false failed"):
        python_environment("peer", "dbos")


def test_earlier_run_is_compared_at_one_speed(tmp_path):
    here = circumstances(NOW)
    then = answer(
        Figure("hello", 200, "us", bound=120, yardstick_us=740),
        Figure("ratio", 2.0, "x", yardstick_us=740),
        Figure("old", 100, "us"),
        rows=(row("edge", HELLO, 100),),
    )
    kept = keep(tmp_path, here, [then])[0]
    now = answer(
        Figure("hello", 45, "us", bound=120, yardstick_us=370),
        Figure("ratio", 1.0, "x", yardstick_us=370),
        Figure("old", 50, "us", yardstick_us=370),
        Figure("new", 5, "us", yardstick_us=370),
        rows=(row("edge", HELLO, 80), row("other", HELLO, 90)),
    )
    earlier = read(kept)
    found = changes(earlier, [now])
    assert [(one.before, one.after, one.scaled) for one in found] == [
        (100, 45, True),
        (2, 1, False),
        (100, 50, False),
        (None, 5, True),
        (100, 80, False),
        (None, 90, False),
    ]
    text = keep(tmp_path, here, [now], earlier, found)[1].read_text()
    assert f"Against commit {here.commit}" in text
    assert "| question | hello | 100.00 | 45.00 | us | -55% | scaled | reached |" in text
    assert "| question | new |  | 5.00 | us |  | scaled |  |" in text


@pytest.mark.parametrize("content", ["", "[]", '{"figures": [{"what": "hello"}]}'])
def test_file_that_is_no_run_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(Unreadable, match=r"is no run of the bench"):
        read(tmp_path / "run.json")
    with pytest.raises(Unreadable, match="No such file"):
        read(tmp_path / "none.json")
