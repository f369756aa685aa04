"""The engine: stored entries and inputs in, effects out. Pure: no I/O, no clock, no randomness, no trio.

Its state is the fold of the instance's entries plus what the script has asked for in this activation. `run` is executed
from the top in each activation; a step that has its result in the journal is answered from it.

Order of results: at replay results are given in the order of their entries, one at a time, and a result is held back
until every step that had been asked for before it has been asked for again. In live execution, too, results are given
one at a time in the order of their entries. So a race between steps has the same winner each time.

Drift: a script that asks for something else than the journal has is stopped (`Fault`) before it begins anything new:
where a step is found under its key with another kind, other arguments or another condition, where a step is new in a
part that ran before, or a recorded one is left out. Not `strict`, as on Cloudflare, all but another kind is followed,
what is recorded stays in force, and it is noted as `Drifted` to be shown. A changed configuration is noted either way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush, nsmallest
from typing import Final, assert_never

from edge_runtime.limits import SLEEP_MAX_MS, STEPS_DEFAULT, WORKFLOW_RESUME_MS
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.effects import (
    Append,
    AskDelay,
    AttemptRaised,
    AttemptSucceeded,
    Breathe,
    Consume,
    DelayComputed,
    Delivered,
    Effect,
    EventArrived,
    Fault,
    Finish,
    Input,
    PauseAsked,
    Refuse,
    Relaunch,
    Resolve,
    ResumeAsked,
    RunRaised,
    RunReturned,
    RunStopped,
    SetTimer,
    SleepRequested,
    Stalled,
    StartAttempt,
    StepRequested,
    Stopped,
    StopRun,
    Suspend,
    TerminateAsked,
    TimerFired,
    ValueRequested,
    WaitRequested,
    Woken,
)
from edge_runtime.workflows.journal import (
    AttemptFailed,
    AttemptReleased,
    AttemptStarted,
    Created,
    Drifted,
    Entry,
    EventReceived,
    Finished,
    Paused,
    PauseRequested,
    Restarted,
    Resumed,
    RollbackEnded,
    RollbackStarted,
    StepFailed,
    StepKey,
    StepKind,
    StepStarted,
    StepSucceeded,
    rollback_key,
)
from edge_runtime.workflows.operation import Operation, Phase, retry_delay_ms
from edge_runtime.workflows.requests import Request, difference, is_of_kind, start_entry
from edge_runtime.workflows.rollback import MISSING, REFUSED, TERMINATED, Rollback, RollbackPhase, undoable

_AT_REST: Final = frozenset({Phase.SLEEPING, Phase.WAITING, Phase.RETRYING})


class Engine:
    """One activation of one instance.

    `entries` are all that are stored, `events` all that are in the inbox, in order; `due_ms` is the stored timer.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        events: Iterable[EventArrived] = (),
        *,
        due_ms: int | None = None,
        steps_max: int = STEPS_DEFAULT,
        strict: bool = True,
    ) -> None:
        self._operations: dict[StepKey, Operation] = {}
        self._starts: deque[Operation] = deque()  # stored before, by seq; those asked for leave at the front
        self._undelivered: deque[Operation] = deque()  # done, result not given; by done_seq
        self._held = 0  # how many of those the script has asked for
        self._open: dict[StepKey, Operation] = {}  # asked for and not done
        self._timed: dict[StepKey, Operation] = {}  # the open ones that wait for a time or an event
        self._dues: list[tuple[int, int, StepKey]] = []  # a heap: when those are due; also what is so no more
        self._waits: dict[str, dict[StepKey, Operation]] = {}  # those that wait for an event, by its type
        self._occurrences: dict[tuple[tuple[str, ...], str], int] = {}
        self._positions: dict[tuple[str, ...], int] = {}
        self._events: dict[str, deque[EventArrived]] = {}
        self._known_events: set[bytes] = set()
        self._noted: set[tuple[StepKey | None, str]] = set()
        self._steps_max = steps_max
        self._strict = strict
        self._passed: list[Operation] = []  # left out, as far as the script has gone
        self._faulty = False
        self._do_steps = 0
        self._pausing_ms: int | None = None  # since when, from the request until the end of the pause
        self._deferred: list[Request] = []  # asked for while that was so
        self._rollback: Rollback | None = None
        self._over = False
        self._due_ms = due_ms
        self._delivering = False
        self._effects: list[Effect] = []
        self._now_ms = 0
        self.seq = 0
        self.finished = False
        self.paused = False
        self.live = True
        """The script runs in this activation."""
        for entry in entries:
            self._absorb(entry)
        self._starts.extend(op for op in self._operations.values() if op.started.step is not StepKind.ROLLBACK)
        self._loaded_seq = self.seq
        for event in events:
            self._buffer(event)

    # What the driver may look at

    @property
    def waiting(self) -> bool:
        """The script waits for times and events, and for nothing else that the engine knows of."""
        return bool(self._open) and len(self._open) == len(self._timed) and not self._held

    @property
    def pausing(self) -> bool:
        """A pause was asked for, and perhaps is there already."""
        return self._pausing_ms is not None

    def awaited(self, limit: int) -> list[Operation]:
        """What the script waits for, soonest first."""
        return nsmallest(limit, self._timed.values(), key=lambda op: (op.due_ms or 0, op.started.seq))

    @property
    def undoing(self) -> bool:
        """Steps are being undone, or will be."""
        return self._rollback is not None

    @property
    def unread(self) -> Iterable[bytes]:
        """Where the events that nobody has waited for are stored."""
        return [event.inbox_key for events in self._events.values() for event in events]

    @property
    def holding(self) -> bool:
        """A result that the script has asked for is held back until the script asks for other steps."""
        return self._gathering or (self._held > 0 and not self._delivering)

    def reserve(self, path: tuple[str, ...], name: str) -> tuple[StepKey, int]:
        """The key and the position of the next step of this name in this context.

        Called when the script calls the step, which may be before it is ready to be asked for.
        """
        count = self._occurrences[(path, name)] = self._occurrences.get((path, name), 0) + 1
        position = self._positions[path] = self._positions.get(path, 0) + 1
        return StepKey(path, name, count), position

    def apply(self, input: Input, now_ms: int) -> list[Effect]:
        """Take one input; the effects are to be performed in order. After the end, and after `Stopped`: none."""
        if self.finished or self._over:
            return []
        self._effects, self._now_ms = [], now_ms
        match input:
            case StepRequested() | SleepRequested() | WaitRequested() | ValueRequested():
                self._delivering = False  # the script has moved on, so it has reacted
                self._request(input)
            case AttemptSucceeded():
                op = self._operations[input.key]
                if op.in_flight and op.attempt == input.attempt:
                    self._append(
                        StepSucceeded(
                            seq=self._next, at_ms=now_ms, key=input.key, value=input.value, cpu_us=input.cpu_us
                        )
                    )
            case AttemptRaised():
                op = self._operations[input.key]
                if op.in_flight and op.attempt == input.attempt:
                    op.in_flight, op.cpu_us = False, input.cpu_us
                    self._attempt_failed(op, input.error, input.retryable, input.retry_after_ms)
            case DelayComputed():
                self._delay_computed(input)
            case TimerFired():
                self._due_ms = None
                self._expire()
            case EventArrived():
                if self._buffer(input):
                    self._match_events()
            case Delivered():
                self._delivering = False
            case Stalled():
                self._stalled()
            case PauseAsked():
                self._pause(input)
            case ResumeAsked():
                self._resume(input)
            case TerminateAsked():
                self._terminate(input)
            case RunReturned() | RunRaised():
                self._run_over(input)
            case RunStopped():
                if self._rollback is not None and self._rollback.phase is RollbackPhase.STOPPING:
                    self._rollback.phase = RollbackPhase.UNDOING
            case Woken():
                pass
            case Stopped():
                self._release()
            case _:
                assert_never(input)
        if not self.finished and not self._faulty:
            self._go_on()
        return self._effects

    def _go_on(self) -> None:
        if self._rollback is not None:
            self._roll_back(self._rollback)
        elif self._pausing_ms is not None:
            if not self.paused:
                self._settle_pause()
        else:
            self._deliver()
        if not self.finished:
            self._arm()

    # Entries

    @property
    def _next(self) -> int:
        return self.seq + 1

    def _append(self, entry: Entry) -> None:
        self._absorb(entry)
        self._effects.append(Append(entry))

    def _absorb(self, entry: Entry) -> None:
        assert entry.seq == self._next, "entries are numbered without gaps"
        self.seq = entry.seq
        match entry:
            case Created():
                return
            case Drifted():
                self._noted.add((entry.key, entry.difference))
                return
            case Finished():
                self.finished = True
                return
            case PauseRequested():
                self._pausing_ms = entry.since_ms
                return
            case Paused():
                self.paused = True
                return
            case Resumed():
                for op in self._operations.values():
                    op.shift(self._pausing_ms or 0, entry.until_ms)
                    self._file(op)
                self._pausing_ms, self.paused = None, False
                return
            case RollbackStarted():
                self._pausing_ms, self.paused = None, False
                self._rollback = Rollback(entry, self._operations)
                return
            case Restarted() | RollbackEnded():
                return
            case StepStarted():
                op = self._operations[entry.key] = Operation.begin(entry)
                self._do_steps += entry.step is StepKind.DO
            case _:
                op = self._operations[entry.key]
                op.absorb(entry)
        if op.phase is Phase.DONE and op.started.step is not StepKind.ROLLBACK:
            self._undelivered.append(op)
            self._held += op.requested
        self._file(op)

    def _file(self, op: Operation) -> None:
        if not op.requested:
            return
        if op.phase is Phase.DONE:
            self._open.pop(op.key, None)
        else:
            self._open[op.key] = op
        if op.phase in _AT_REST:
            self._timed[op.key] = op
            if op.due_ms is not None:
                heappush(self._dues, (op.due_ms, op.started.seq, op.key))
            if op.phase is Phase.WAITING:
                self._waits.setdefault(op.started.event_type, {})[op.key] = op
        else:
            self._timed.pop(op.key, None)
            if (waits := self._waits.get(op.started.event_type)) is not None:
                waits.pop(op.key, None)

    # Requests

    def _request(self, request: Request) -> None:
        if self._rollback is not None:
            self._request_while_undoing(self._rollback, request)
            return
        if self._pausing_ms is not None:
            self._deferred.append(request)
            return
        op = self._operations.get(request.key)
        if op is None:
            self._begin(request)
            return
        assert not op.requested, "a key is reserved once"
        found = difference(op.started, request)
        if found is not None:
            if self._strict or not is_of_kind(op.started, request):
                self._fault(op, found)
                return
            self._note(request.key, f"{found}; what is recorded stays in force")
        if isinstance(request, StepRequested) and op.started.config not in (None, request.config):
            self._note(request.key, "its configuration has changed; the recorded one stays in force")
        if not self._found(op):
            self._file(op)
            self._take_up(op)

    def _found(self, op: Operation) -> bool:
        """The script has asked for a recorded step; returns whether that is done."""
        op.requested = True
        while self._starts and self._starts[0].requested:
            self._starts.popleft()
        if op.phase is not Phase.DONE:
            return False
        self._held += 1
        if op.left_out:
            self._undelivered.appendleft(op)
        return True

    def _take_up(self, op: Operation) -> None:
        """Go on with a step that an earlier activation has begun."""
        match op.phase:
            case Phase.RUNNING:
                # It began in an activation that did not end in an orderly way.
                self._attempt_failed(op, op.interruption, retryable=True)
            case Phase.RELEASED:
                self._start_attempt(op, op.attempt)
            case _:
                self._match_events()
                self._expire()

    def _begin(self, request: Request) -> None:
        if isinstance(request, StepRequested) and self._do_steps >= self._steps_max:
            text = (
                f"The limit of {self._steps_max} steps has been reached. "
                "This limit can be changed in your worker configuration."
            )
            self._effects.append(Refuse(request.key, ErrorRecord("WorkflowFatalError", text)))
            return
        if not self._is_new_rightly(request):
            return
        self._append(start_entry(request, self._next, self._now_ms))
        op = self._operations[request.key]
        op.requested = True
        self._file(op)
        if isinstance(request, ValueRequested):
            self._append(StepSucceeded(seq=self._next, at_ms=self._now_ms, key=op.key, value=request.value))
            return
        if op.phase is Phase.DONE:
            self._held += 1
            return
        if op.phase is Phase.RUNNING:
            op.in_flight = True
            self._effects.append(self._start(op))
        else:
            self._match_events()
            self._expire()

    def _is_new_rightly(self, request: Request) -> bool:
        """Whether a step that the journal does not have may begin."""
        if self._strict and (left := self._left_out) is not None:
            self._fault(left, f"the script has gone on to step {request.key} without asking for it")
            return False
        if self._starts and any(op.done_seq > self._starts[0].started.seq for op in self._stored_undelivered()):
            first = self._starts[0]
            if self._strict:
                self._fault(first, f"step {request.key}, which the journal does not have, is asked for before it")
                return False
            text = f"the journal does not have it; step {first.key} came next when this part ran before"
            self._note(request.key, text)
        return True

    @property
    def _left_out(self) -> Operation | None:
        """A recorded step that the script has gone on without."""
        return next((op for op in self._passed if not op.requested), None)

    def _stored_undelivered(self) -> Iterable[Operation]:
        return (op for op in self._undelivered if op.done_seq <= self._loaded_seq)

    # Commands

    def _pause(self, asked: PauseAsked) -> None:
        self._effects.append(Consume(asked.inbox_key))
        if self._pausing_ms is None and self._rollback is None:
            since_ms = min(asked.sent_ms, self._now_ms)
            self._append(PauseRequested(seq=self._next, at_ms=self._now_ms, since_ms=since_ms))

    def _settle_pause(self) -> None:
        """The pause has come once nothing runs any more."""
        if not any(op.in_flight or op.phase is Phase.ASKING for op in self._open.values()):
            self._append(Paused(seq=self._next, at_ms=self._now_ms))
            self._over = True
            self._effects.append(Suspend())

    def _resume(self, asked: ResumeAsked) -> None:
        self._effects.append(Consume(asked.inbox_key))
        if self._pausing_ms is None:
            return
        was_paused = self.paused
        self._append(Resumed(seq=self._next, at_ms=self._now_ms, until_ms=min(asked.sent_ms, self._now_ms)))
        if was_paused:
            self._relaunch()
            return
        deferred, self._deferred = self._deferred, []
        for request in deferred:
            self._request(request)
        self._match_events()
        self._expire()

    def _terminate(self, asked: TerminateAsked) -> None:
        self._effects.append(Consume(asked.inbox_key))
        if not asked.rollback:
            self._finish(Finish("terminated"))
        elif self._rollback is None:
            self._begin_rollback(Finish("terminated"), TERMINATED)

    def _relaunch(self) -> None:
        self._over = True
        self._effects.append(Relaunch())

    # Rollback

    def _begin_rollback(self, finish: Finish, error: ErrorRecord) -> None:
        steps = undoable(self._operations)
        if not steps:
            self._finish(finish)
            return
        self._append(
            RollbackStarted(seq=self._next, at_ms=self._now_ms, status=finish.status, error=error, total=len(steps))
        )
        if not self.live:
            self._relaunch()

    @property
    def _gathering(self) -> bool:
        return self._rollback is not None and self._rollback.phase is RollbackPhase.GATHERING

    def _request_while_undoing(self, rollback: Rollback, request: Request) -> None:
        if rollback.phase is not RollbackPhase.GATHERING:
            self._effects.append(Refuse(request.key, REFUSED))
            return
        op = self._operations.get(request.key)
        if op is not None and difference(op.started, request) is None:
            self._found(op)

    def _stop_run(self, rollback: Rollback) -> None:
        rollback.phase = RollbackPhase.STOPPING
        for op in self._open.values():
            op.in_flight = False
        self._open.clear()
        self._timed.clear()
        self._waits.clear()
        self._undelivered.clear()
        self._starts.clear()
        self._held, self._delivering = 0, False
        self._effects.append(StopRun())

    def _roll_back(self, rollback: Rollback) -> None:
        if self._over:
            return
        if rollback.phase is RollbackPhase.GATHERING:
            if rollback.gathered:
                self._stop_run(rollback)
            else:
                self._deliver()
        elif rollback.phase is RollbackPhase.UNDOING:
            while (found := rollback.next) is not None:
                if not self._undo(*found):
                    return
            self._end_rollback(rollback)

    def _undo(self, step: Operation, undo: Operation | None) -> bool:
        """Begin or take up the undoing of a step; returns whether it is over already."""
        if undo is not None and undo.requested:
            return False
        if undo is None:
            assert step.started.rollback is not None, "only steps with a handler are undone"
            self._append(
                StepStarted(
                    seq=self._next,
                    at_ms=self._now_ms,
                    key=rollback_key(step.key),
                    step=StepKind.ROLLBACK,
                    position=step.started.position,
                    fingerprint="",
                    config=step.started.rollback,
                )
            )
            undo = self._operations[rollback_key(step.key)]
            begun = True
        else:
            begun = False
        undo.requested = True
        self._file(undo)
        if not step.requested:
            self._append(StepFailed(seq=self._next, at_ms=self._now_ms, key=undo.key, error=MISSING))
        elif begun:
            undo.in_flight = True
            self._effects.append(self._start(undo))
        else:
            self._take_up(undo)
        return undo.phase is Phase.DONE

    def _end_rollback(self, rollback: Rollback) -> None:
        started = rollback.started
        self._append(
            RollbackEnded(seq=self._next, at_ms=self._now_ms, completed=rollback.completed, total=len(rollback.steps))
        )
        self._finish(Finish(started.status, error=started.error if started.status == "errored" else None))

    # Attempts

    def _start(self, op: Operation) -> StartAttempt:
        undo = None
        if op.started.step is StepKind.ROLLBACK and self._rollback is not None:
            undo = self._rollback.undo(self._operations[StepKey(op.key.path[1:], op.key.name, op.key.occurrence)])
        return StartAttempt(op.key, op.attempt, op.config, after_commit=op.started.at_most_once, undo=undo)

    def _start_attempt(self, op: Operation, attempt: int) -> None:
        self._append(AttemptStarted(seq=self._next, at_ms=self._now_ms, key=op.key, attempt=attempt))
        op.in_flight = True
        self._effects.append(self._start(op))

    def _attempt_failed(
        self, op: Operation, error: ErrorRecord, retryable: bool, retry_after_ms: int | None = None
    ) -> None:
        if not retryable or not op.may_retry:
            self._append(StepFailed(seq=self._next, at_ms=self._now_ms, key=op.key, error=error, cpu_us=op.cpu_us))
        elif retry_after_ms is not None:
            self._retry_after(op, error, min(retry_after_ms, SLEEP_MAX_MS))
        elif op.config.delay_ms is None:
            op.phase, op.pending_error = Phase.ASKING, error
            self._effects.append(AskDelay(op.key, op.attempt, error))
        else:
            self._retry_after(op, error, retry_delay_ms(op.config, op.attempt))

    def _delay_computed(self, answer: DelayComputed) -> None:
        op = self._operations[answer.key]
        if op.phase is not Phase.ASKING or op.attempt != answer.attempt:
            return
        error, op.pending_error = op.pending_error, None
        assert error is not None, "a delay is asked for after an error"
        if answer.error is not None:
            self._append(StepFailed(seq=self._next, at_ms=self._now_ms, key=op.key, error=answer.error))
        else:
            self._retry_after(op, error, min(answer.delay_ms, SLEEP_MAX_MS))

    def _retry_after(self, op: Operation, error: ErrorRecord, delay_ms: int) -> None:
        retry_at_ms = self._now_ms + delay_ms
        self._append(
            AttemptFailed(
                seq=self._next,
                at_ms=self._now_ms,
                key=op.key,
                attempt=op.attempt,
                error=error,
                retry_at_ms=retry_at_ms,
                cpu_us=op.cpu_us,
            )
        )
        if delay_ms <= 0 and self._pausing_ms is None:
            self._start_attempt(op, op.attempt + 1)

    def _release(self) -> None:
        for op in list(self._open.values()):
            if op.phase is Phase.ASKING:
                assert op.pending_error is not None, "a delay is asked for after an error"
                self._append(
                    AttemptFailed(
                        seq=self._next,
                        at_ms=self._now_ms,
                        key=op.key,
                        attempt=op.attempt,
                        error=op.pending_error,
                        retry_at_ms=self._now_ms,
                    )
                )
            elif op.in_flight and not op.started.at_most_once:
                self._append(AttemptReleased(seq=self._next, at_ms=self._now_ms, key=op.key, attempt=op.attempt))

    # Time and events

    def _expire(self) -> None:
        """End the sleeps and waits that are due and begin the attempts that are."""
        if self._pausing_ms is not None:
            return
        while (op := self._soonest) is not None and (op.due_ms or 0) <= self._now_ms:
            heappop(self._dues)
            if op.phase is Phase.SLEEPING:
                self._append(StepSucceeded(seq=self._next, at_ms=self._now_ms, key=op.key))
            elif op.phase is Phase.WAITING:
                waited_ms = (op.started.due_ms or 0) - op.started.at_ms
                error = ErrorRecord("WorkflowTimeoutError", f"Execution timed out after {waited_ms}ms")
                self._append(StepFailed(seq=self._next, at_ms=self._now_ms, key=op.key, error=error))
            elif op.phase is Phase.RETRYING:
                self._start_attempt(op, op.attempt + 1)

    @property
    def _soonest(self) -> Operation | None:
        """What is due next of all that waits."""
        while self._dues:
            due_ms, _, key = self._dues[0]
            op = self._timed.get(key)
            if op is not None and op.due_ms == due_ms:
                return op
            heappop(self._dues)
        return None

    def _buffer(self, event: EventArrived) -> bool:
        if event.inbox_key in self._known_events:
            return False
        self._known_events.add(event.inbox_key)
        self._events.setdefault(event.event_type, deque()).append(event)
        return True

    def _match_events(self) -> None:
        """Give buffered events to the waits of their type, oldest to oldest; a wait takes none sent after its end."""
        if self._pausing_ms is not None:
            return
        if not self._waits or not self._events:
            return
        waits = [op for event_type in self._events for op in self._waits.get(event_type, {}).values()]
        waits.sort(key=lambda op: op.started.seq)
        for op in waits:
            buffered = self._events.get(op.started.event_type)
            if not buffered:
                continue
            event = buffered[0]
            if op.due_ms is not None and event.sent_ms > op.due_ms and self._now_ms >= op.due_ms:
                continue
            buffered.popleft()
            if not buffered:
                del self._events[op.started.event_type]
            self._append(
                EventReceived(
                    seq=self._next,
                    at_ms=self._now_ms,
                    key=op.key,
                    event_type=event.event_type,
                    payload=event.payload,
                    sent_ms=event.sent_ms,
                )
            )
            self._effects.append(Consume(event.inbox_key))

    def _arm(self) -> None:
        """Keep the stored timer early enough: when something is due, and for as long as the script runs soon.

        A running instance always has a timer, for that is what brings it back after a crash. A paused one has none.
        """
        if self.paused:
            if self._due_ms is not None:
                self._due_ms = None
                self._effects.append(SetTimer(None))
            return
        soonest = None if self._pausing_ms is not None else self._soonest
        wanted_ms = None if soonest is None else soonest.due_ms
        if not self.waiting or wanted_ms is None:
            resume_ms = self._now_ms + WORKFLOW_RESUME_MS
            if wanted_ms is None or wanted_ms > resume_ms:
                # One that is set for a little earlier will do: this is not written with every step.
                early_ms = resume_ms - WORKFLOW_RESUME_MS // 2
                if self._due_ms is not None and early_ms <= self._due_ms <= resume_ms:
                    return
                wanted_ms = resume_ms
        if wanted_ms != self._due_ms:
            self._due_ms = wanted_ms
            self._effects.append(SetTimer(wanted_ms))

    # Delivery of results

    def _deliver(self) -> None:
        if not self._undelivered:
            return
        op = self._undelivered[0]
        if not op.requested or (self._starts and self._starts[0].started.seq < op.done_seq):
            return
        if self._delivering:
            self._effects.append(Breathe())
            return
        self._undelivered.popleft()
        self._held -= 1
        assert op.result is not None, "a step that is done has a result"
        self._delivering = True
        self._effects.append(Resolve(op.key, op.result, op.done_seq))
        if op.started.rollback is None:
            # Nobody needs it any more, and results may be large and many.
            op.result = None
        if self._held:
            self._effects.append(Breathe())

    def _stalled(self) -> None:
        if self._held and not self._delivering:
            self._pass_over()
        elif self._rollback is not None and self._gathering:
            # The script waits for what is held back; it names no further handlers.
            self._stop_run(self._rollback)

    def _pass_over(self) -> None:
        """Hold nothing back any longer for the steps before the first result that the script has asked for."""
        while not self._undelivered[0].requested:
            self._undelivered[0].left_out = True
            self._passed.append(self._undelivered.popleft())
        while self._starts and self._starts[0].started.seq < self._undelivered[0].done_seq:
            op = self._starts.popleft()
            op.left_out = not op.requested
            self._passed.append(op)

    # Drift and end

    def _run_over(self, ended: RunReturned | RunRaised) -> None:
        if self._rollback is not None:
            if self._gathering:
                self._stop_run(self._rollback)
        elif self._strict and (left := self._left_out) is not None:
            self._fault(left, "the script has ended without asking for it")
        elif isinstance(ended, RunReturned):
            self._note_left_out()
            self._finish(Finish("complete", output=ended.output))
        else:
            finish = Finish("errored", error=ended.error)
            if ended.rollback:
                self._begin_rollback(finish, ended.error)
            else:
                self._finish(finish)

    def _note(self, key: StepKey | None, difference: str) -> None:
        if (key, difference) not in self._noted:
            self._append(Drifted(seq=self._next, at_ms=self._now_ms, key=key, difference=difference))

    def _note_left_out(self) -> None:
        for op in self._operations.values():
            if not op.requested:
                self._note(op.key, "the journal has it and the script did not ask for it again")

    def _fault(self, op: Operation, difference: str) -> None:
        self._release()
        self._faulty = self._over = True
        self._effects.append(Fault(f"step {op.key} (entry {op.started.seq}): {difference}"))
        if self._due_ms is not None:
            self._effects.append(SetTimer(None))

    def _finish(self, finish: Finish) -> None:
        self._append(Finished(seq=self._next, at_ms=self._now_ms, status=finish.status))
        self._effects.append(finish)
