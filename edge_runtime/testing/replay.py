"""`replay`: a recorded instance run again by a script that may have changed since, up to where the record ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from bindings.workflows.export import Exported, read_back
from bindings.workflows.kind import WorkflowSpec
from bindings.workflows.shown import error_json, plain
from edge_runtime.actors.api import ActorAddress
from edge_runtime.config.model import JsonValue
from edge_runtime.errors import UsageError
from edge_runtime.event import EventContext
from edge_runtime.limits import REPLAY_STALL_MS
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.process import NEVER, Process, open_process
from edge_runtime.testing.scheduling import run
from edge_runtime.testing.subject import Script, Subject, open_script
from edge_runtime.testing.surroundings import EPOCH_MS, JumpingClock
from edge_runtime.workflows.core.effects import StartAttempt
from edge_runtime.workflows.core.journal import (
    Created,
    Entry,
    Finished,
    Paused,
    PauseRequested,
    Resumed,
    RollbackStarted,
    StepStarted,
)
from edge_runtime.workflows.core.requests import Request
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.stored import blocks, instances
from edge_runtime.workflows.stored.instances import InstanceRecord, Status
from edge_runtime.workflows.stored.streams import put_pieces

_LOOK_MS: Final = 50
_LOOKS_MAX: Final = 10 * REPLAY_STALL_MS // _LOOK_MS
"""After so many looks, each after a pause of the clock that jumps, nothing will come any more."""
_SHOWN: Final = 12


class ReplayDifference(AssertionError):
    """The script does not fit the journal; the text says where, and shows what was recorded and what is asked for."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """The script fits the journal."""

    workflow: str
    instance: str
    steps: int
    """How many recorded steps the script asked for again."""
    beyond: tuple[str, ...]
    """What it asked for that the journal does not have: what a running instance does next."""


def replay(
    worker: Subject,
    recorded: str | Path,
    *,
    binding: str | None = None,
    vars: Mapping[str, JsonValue] | None = None,
    kv: Sequence[str] = (),
) -> ReplayReport:
    """Run a recorded instance again. No body of a step is called: what is recorded is answered from the record, and
    the replay ends where the record does. An instance that was finished must end as it did.

    Not to be called inside of a trio run.

    Args:
        worker: see `Subject`.
        recorded: what `edge workflows instances export NAME ID --raw` printed, or the file that it is in.
        binding: which workflow, where the record does not name one of the worker's, as after a change of its name.
    Raises:
        ReplayDifference, UsageError.
    """
    exported = read_back(recorded.read_text() if isinstance(recorded, Path) else recorded)
    with open_script(worker, variables=vars, kv=kv) as script:
        spec = _workflow(script, exported, binding)
        return run(_replay, script, spec, exported)


def _workflow(script: Script, exported: Exported, binding: str | None) -> WorkflowSpec:
    specs = [
        (found.name, found.spec)
        for found in script.config.bindings
        if isinstance(found.spec, WorkflowSpec) and found.spec.worker == script.config.name
    ]
    for name, spec in specs:
        if name == binding or (binding is None and spec.workflow == exported.workflow):
            return spec
    known = ", ".join(f"{name} ({spec.workflow})" for name, spec in specs) or "none"
    wanted = f"workflow {exported.workflow!r}" if binding is None else f"binding {binding!r}"
    raise UsageError(
        f"the worker has no {wanted}; it has {known}. Name the binding of the workflow that took its place"
    )


class _Watch:
    """`workflows.attempts.interception.Interceptor` that lets no attempt run, and writes down what is asked for."""

    def __init__(self, recorded: set[str]) -> None:
        self._recorded = recorded
        self.asked: list[str] = []
        self.beyond: list[str] = []

    def request(self, address: ActorAddress, request: Request) -> Request:
        key = str(request.key)
        (self.asked if key in self._recorded else self.beyond).append(key)
        return request

    async def attempt(
        self, address: ActorAddress, event: EventContext, effect: StartAttempt, run: Callable[[], Awaitable[Any]]
    ) -> Any:
        await trio.sleep_forever()


async def _replay(script: Script, spec: WorkflowSpec, exported: Exported) -> ReplayReport:
    entries = _before_the_end(exported.entries)
    steps = [str(entry.key) for entry in entries if isinstance(entry, StepStarted)]
    address = instances.address_of(script.config.name, spec.workflow, exported.instance or "recorded")
    store = MemoryStore()
    batch = _stored(address, entries)
    for key, pieces in exported.streams.items():
        put_pieces(batch, address, key, pieces)
    await store.commit(batch)
    watch = _Watch(set(steps))
    clock = JumpingClock(entries[-1].at_ms - EPOCH_MS)
    async with open_process(script, store, watch, clock=clock, idle_ms=NEVER) as process:
        record = await _settled(process, address, watch, set(steps))
    found = _difference(record, exported, watch, steps)
    if found is not None:
        raise ReplayDifference(_text(exported, found, steps, watch))
    return ReplayReport(spec.workflow, address.id, len(watch.asked), tuple(watch.beyond))


def _before_the_end(entries: Sequence[Entry]) -> list[Entry]:
    """The entries of the run itself: an end and what was undone for it come of themselves, or do not any more."""
    kept: list[Entry] = []
    paused = False
    for entry in entries:
        if isinstance(entry, RollbackStarted | Finished):
            break
        paused = isinstance(entry, PauseRequested | Paused) or (paused and not isinstance(entry, Resumed))
        kept.append(entry)
    if paused:
        last = kept[-1]
        kept.append(Resumed(seq=last.seq + 1, at_ms=last.at_ms, until_ms=last.at_ms))
    return kept


def _stored(address: ActorAddress, entries: list[Entry]) -> Batch:
    batch = Batch()
    stored, _ = blocks.encode(entries, blocks.FIRST_DIGEST)
    batch.put(Table.JOURNAL, blocks.key(address.worker, address.namespace, address.id, 1), stored)
    created = entries[0]
    assert isinstance(created, Created), "what is read back begins with it"
    record = InstanceRecord(
        status=Status.RUNNING,
        created_ms=created.at_ms,
        updated_ms=entries[-1].at_ms,
        seq=len(entries),
        started_ms=created.at_ms,
    )
    instances.write(batch, address, None, record)
    return batch


async def _settled(process: Process, address: ActorAddress, watch: _Watch, steps: set[str]) -> InstanceRecord:
    """The instance's record once it has ended, was stopped, or has asked for all that is recorded and goes beyond."""
    record: InstanceRecord | None = None
    for _ in range(_LOOKS_MAX):
        await process.clock.sleep_until_ms(process.clock.now_ms() + _LOOK_MS)
        with process.store.snapshot() as snapshot:
            record = instances.read(snapshot, address)
        assert record is not None, "nobody deletes it"
        if record.finished or record.status is Status.PAUSED:
            break
        if steps <= set(watch.asked) and (watch.beyond or record.status is Status.WAITING):
            break
    assert record is not None, "it was looked at"
    return record


def _difference(record: InstanceRecord, exported: Exported, watch: _Watch, steps: list[str]) -> str | None:
    if record.status is Status.PAUSED and record.error is not None:
        return record.error.message.partition(". The instance is stopped")[0]
    missing = [step for step in steps if step not in watch.asked]
    last = exported.entries[-1]
    if not isinstance(last, Finished):
        if missing and not record.finished:
            return f"The script waits for something else and does not ask for step {missing[0]}"
        return None
    # What was terminated had not come to an end of its own.
    if last.status == Status.TERMINATED:
        return None
    if watch.beyond:
        return f"The script goes on to step {watch.beyond[0]}, where the instance was {last.status}"
    if missing or not record.finished:
        where = f"step {missing[0]}" if missing else "its end"
        return f"The script does not come to {where}; the instance was {last.status}"
    output = None if record.output is None else plain(payloads.decode_plain(record.output))
    error = error_json(record.error)
    was = exported.output if last.status == Status.COMPLETE else _brief(exported.error)
    now = output if record.status is Status.COMPLETE else _brief(error)
    if (record.status, now) == (last.status, was):
        return None
    return f"The instance was {last.status} with {was!r} and is {record.status} with {now!r} now"


def _brief(error: Any) -> Any:
    return {name: error.get(name) for name in ("name", "message")} if isinstance(error, dict) else error


def _text(exported: Exported, difference: str, steps: list[str], watch: _Watch) -> str:
    asked = [*watch.asked, *watch.beyond]
    same = next((at for at, pair in enumerate(zip(steps, asked, strict=False)) if pair[0] != pair[1]), None)
    start = 0 if same is None else max(0, same - 2)
    lines = [f"workflow {exported.workflow}, instance {exported.instance}: {difference}"]
    for title, names in (("recorded", steps), ("asked for", asked)):
        shown = names[start : start + _SHOWN]
        before, after = "... " if start else "", " ..." if len(names) > start + _SHOWN else ""
        lines.append(f"  {title + ':':10} {before}{', '.join(shown) or 'nothing'}{after}")
    return "\n".join(lines)
