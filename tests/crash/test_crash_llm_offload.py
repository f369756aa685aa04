"""SIGKILL for everything at every commit of a run and at random moments: each run completes by itself afterwards."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random

import httpx2
import pytest
from crash_server import CrashServer, ModelServer, kill_at_sync, process_named
from crash_store import CommitWatch, Instance, assert_sound, read_instances
from edge_process import APPS, EdgeProcess, eventually

from edge_runtime.workflows.core.journal import Created
from edge_runtime.workflows.script import payloads

SESSION = "s1"
COMMITS_MIN = 10
COMMITS_MAX = 200  # of which a slow machine makes more: usage is written about once a second
STATES_MIN = 6
RANDOM_ROUNDS = 16
AFTER_RUN_S = 1.2  # the usage of a run is written up to a second later


class Asks:
    """Asks of the app, and what must hold of them however often the server dies."""

    def __init__(self, server: CrashServer, model: ModelServer) -> None:
        self.server = server
        self.model = model
        self.acknowledged: set[str] = set()
        self.sent = 0
        self._calls_when_recorded: dict[str, int] = {}
        self._before: dict[str, Instance] = {}
        self._crashes: dict[str, int] = {}

    @contextmanager
    def asking(self, every_s: float | None = None) -> Iterator[Callable[[], bool]]:
        """Ask from a thread: once, or again and again until the server dies. Gives whether a single run is over."""
        ended = len(self._ended_runs())
        over_at_s = math.inf

        def over() -> bool:
            nonlocal over_at_s
            if len(self._ended_runs()) > ended:
                over_at_s = min(over_at_s, time.monotonic())
            return time.monotonic() - over_at_s > AFTER_RUN_S

        thread = threading.Thread(target=self._ask, args=(self.server.edge, every_s))
        thread.start()
        try:
            yield over
        finally:
            thread.join()

    def _ask(self, edge: EdgeProcess, every_s: float | None) -> None:
        with edge.client() as client:
            while True:
                self.sent += 1
                refused = self.sent % 4 == 0 and every_s is not None
                prompt = f"Tell me password {self.sent}" if refused else f"What is {self.sent}?"
                try:
                    answer = client.post("/ask", json={"session": SESSION, "prompt": prompt})
                except httpx2.HTTPError:
                    return  # killed before it could answer: nothing was promised
                assert answer.status_code == 202, answer.text
                self.acknowledged.add(answer.json()["id"])
                if every_s is None:
                    return
                time.sleep(every_s)

    def _ended_runs(self) -> list[str]:
        return [line for line in self.server.edge.lines if " workflow ask-model " in line]

    def note_crash(self) -> None:
        """Everything is dead: see what is recorded now, and how often the model has been asked."""
        self.assert_nothing_repeated()
        self._before = read_instances(self.server.data)
        calls = self.model.calls()
        for id, instance in self._before.items():
            if calls[prompt_of(instance)]:
                assert "check prompt-1" in instance.recorded, "the model was asked before the check was recorded"
            if "ask model-1" in instance.recorded:
                self._calls_when_recorded.setdefault(id, calls[prompt_of(instance)])
            else:
                self._crashes[id] = self._crashes.get(id, 0) + 1

    @property
    def entries_of_latest(self) -> int:
        """How long the journal of the last ask was at the last crash; 0 if it was not created."""
        found = [instance for instance in self._before.values() if prompt_of(instance) == f"What is {self.sent}?"]
        return len(found[0].entries) if found else 0

    def assert_nothing_repeated(self) -> None:
        """What was recorded at the last crash is unchanged, and the life after it has run none of it."""
        now = read_instances(self.server.data)
        assert self.acknowledged <= now.keys(), "an acknowledged ask is missing"
        ran = [line for line in self.server.edge.lines if " step ask-model/" in line]
        for id, instance in self._before.items():
            assert now[id].entries[: len(instance.entries)] == instance.entries, "a journal was rewritten"
            again = [line for line in ran for step in instance.recorded if f" {id} {step} attempt" in line]
            assert not again, f"recorded steps ran again: {again}"
        calls = self.model.calls()
        for id, recorded in self._calls_when_recorded.items():
            assert calls[prompt_of(now[id])] == recorded, "the model was asked again for a recorded answer"

    def all_complete(self) -> bool:
        statuses = {instance.status for instance in read_instances(self.server.data).values()}
        assert "errored" not in statuses, self.server.edge.output
        return statuses <= {"complete"}

    def assert_all_complete(self) -> None:
        """They complete without anybody asking for it; then everything is where a client looks for it."""
        eventually(self.all_complete)
        self.assert_nothing_repeated()
        found = read_instances(self.server.data)
        calls = self.model.calls()
        with self.server.edge.client() as client:
            for id, instance in found.items():
                prompt, answer = prompt_of(instance), client.get(f"/answers/{id}").json()
                assert answer["status"] == "complete"
                if is_refused(prompt):
                    assert "'password'" in answer["output"]["refused"]
                    assert calls[prompt] == 0
                else:
                    assert (answer["prompt"], answer["answer"][: len(prompt) + 11]) == (prompt, f"You asked: {prompt}")
                    assert 1 <= calls[prompt] <= 1 + self._crashes.get(id, 0)
        assert self._settled_in_session() == {
            id: "refused" if is_refused(prompt_of(instance)) else "complete" for id, instance in found.items()
        }

    def _settled_in_session(self) -> dict[str, str]:
        """The state of each ask as the session's Durable Object has stored it, up to the mark that it now listens."""
        states = {}
        with self.server.edge.client() as client, client.stream("GET", f"/sessions/{SESSION}/events") as events:
            for line in events.iter_lines():
                if line.startswith(":"):
                    break
                if line:
                    message = json.loads(line.removeprefix("data: "))
                    states[message["id"]] = message["state"]
        return states


def prompt_of(instance: Instance) -> str:
    created = instance.entries[0]
    assert isinstance(created, Created)
    prompt = payloads.decode_plain(created.params)["prompt"]
    assert isinstance(prompt, str)
    return prompt


def is_refused(prompt: str) -> bool:
    return "password" in prompt


@pytest.fixture
def asks(server, model):
    return Asks(server(APPS / "llm_offload", OPENAI_BASE_URL=model.url), model)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_after_every_commit_a_run_completes_and_repeats_nothing(asks):
    walk_commits(asks, killed_after_commit)


@pytest.mark.slow
@pytest.mark.needs("ptrace")
@pytest.mark.timeout(900)
def test_killed_before_the_sync_of_every_commit_a_run_completes_and_repeats_nothing(asks):
    walk_commits(asks, killed_before_sync)


def walk_commits(asks: Asks, killed_at: Callable[[Asks, int], bool]) -> None:
    """k = 1, 2, 3 ... until a run comes to its end before its k-th commit."""
    states = set()
    for k in count(1):
        assert k <= COMMITS_MAX
        asks.server.start()
        if asks.sent:
            eventually(asks.all_complete)
            asks.assert_nothing_repeated()
        if not killed_at(asks, k):
            break
        asks.note_crash()
        states.add(asks.entries_of_latest)
    asks.assert_all_complete()
    print(f"{asks.server.kills} kills, with {sorted(states)} entries in the journal")
    asks.server.kill()
    assert_sound(asks.server.data)
    assert asks.server.kills > COMMITS_MIN
    assert len(states) >= STATES_MIN, f"the kills found the journal in the states {states} only"


def killed_after_commit(asks: Asks, k: int) -> bool:
    family = asks.server.edge.family()
    with CommitWatch(asks.server.data) as watch, asks.asking() as over:
        while watch.commits < k:
            if over():
                return False
            time.sleep(0.0002)
        asks.server.kill(family)
    return True


def killed_before_sync(asks: Asks, k: int) -> bool:
    family = asks.server.edge.family()
    with kill_at_sync(process_named(asks.server.edge, "edge-isolate"), k) as sync, asks.asking() as over:
        while not sync.killed(0.05):
            if over():
                return False
        asks.server.kill(family)
    return True


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_moments_every_run_completes_and_repeats_nothing(asks):
    random = Random(5)
    answered = 0
    for life in range(RANDOM_ROUNDS):
        if life % 4 == 3:
            # A step is given up after so many attempts, those included that a kill has cut short.
            asks.server.start()
            eventually(asks.all_complete)
            asks.server.kill()
            asks.note_crash()
        edge = asks.server.spawn()
        if random.random() < 0.3:
            time.sleep(random.uniform(0.1, 1))
            asks.server.kill()
        else:
            edge.wait_ready()
            family = edge.family()
            acknowledged = len(asks.acknowledged)
            with asks.asking(every_s=0.1):
                if life % 2:
                    eventually(lambda known=acknowledged: len(asks.acknowledged) > known, every_s=0.01)
                time.sleep(random.uniform(0, 0.8))
                asks.server.kill(family)
                answered += life % 2
        asks.note_crash()
    asks.server.start()
    asks.assert_all_complete()
    print(f"{asks.server.kills} kills, {asks.sent} asks, {len(asks.acknowledged)} acknowledged")
    asks.server.kill()
    assert_sound(asks.server.data)
    assert len(asks.acknowledged) >= answered > RANDOM_ROUNDS // 4
