"""The engine: stored entries and inputs in, effects out. Pure: no I/O, no clock, no randomness, no trio.

Its state is the `History` of the activation. `run` is executed from the top in each activation; a step that has its
result in the journal is answered from it. This module takes the inputs and has the parts of the engine go on: in which
order results are given is `replay`'s matter, what a step does next `progress`'s, then there are `drift`, `commands` and
`undoing`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from edge_runtime.limits import STEPS_DEFAULT
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core import commands, delivery, drift, undoing
from edge_runtime.workflows.core.effects import (
    AttemptRaised,
    AttemptSucceeded,
    DelayComputed,
    Delivered,
    Effect,
    EventArrived,
    Input,
    PauseAsked,
    Refuse,
    ResumeAsked,
    RunRaised,
    RunReturned,
    RunStopped,
    SleepRequested,
    Stalled,
    StepRequested,
    Stopped,
    TerminateAsked,
    TimerFired,
    ValueRequested,
    WaitRequested,
    Woken,
)
from edge_runtime.workflows.core.history import History, Recall
from edge_runtime.workflows.core.journal import Created, Entry, StepKey, StepSucceeded
from edge_runtime.workflows.core.operation import Operation, Phase
from edge_runtime.workflows.core.progress import (
    arm,
    attempt_failed,
    delay_computed,
    expire,
    match_events,
    release,
    run,
    take_up,
)
from edge_runtime.workflows.core.requests import Request, start_entry


class Engine:
    """One activation of one instance.

    `load` it with all entries that are stored, first; `recall` gives one of them again, or a later one that is durable.
    `due_ms` is the stored timer. Of the events in the inbox it is given as many as
    the script waits for, in the order of sending, each once. `strict`: a script that drifts from the journal is
    stopped.
    """

    def __init__(
        self,
        recall: Recall,
        *,
        due_ms: int | None = None,
        steps_max: int = STEPS_DEFAULT,
        strict: bool = True,
    ) -> None:
        self._history = History(recall, due_ms)
        self._occurrences: dict[tuple[str, ...], dict[str, int]] = {}
        self._positions: dict[tuple[str, ...], int] = {}
        self._deferred: list[Request] = []  # asked for from the request of a pause until its end
        self._steps_max = steps_max
        self._strict = strict
        self.live = True
        """The script runs in this activation."""

    def load(self, entries: Iterable[Entry]) -> None:
        """Take stored entries, which follow those taken before."""
        self._history.load(entries)

    # What the driver may look at

    @property
    def created(self) -> Created:
        """The first entry."""
        created = self._history.created
        assert created is not None, "a journal begins with the creation"
        return created

    @property
    def seq(self) -> int:
        """The number of the last entry."""
        return self._history.seq

    @property
    def finished(self) -> bool:
        return self._history.finished

    @property
    def paused(self) -> bool:
        return self._history.paused

    @property
    def pausing(self) -> bool:
        """A pause was asked for, and perhaps is there already."""
        return self._history.pausing_ms is not None

    @property
    def running(self) -> bool:
        """The script runs, or steps of it, and no pause was asked for."""
        history = self._history
        # Asked for with every input, when nearly always nothing is timed, and so nothing waits.
        return history.pausing_ms is None and self.live and not (history.timetable.timed and history.waiting)

    @property
    def waiting(self) -> bool:
        """The script waits for times and events, and for nothing else that the engine knows of."""
        return self._history.waiting

    @property
    def sleeps_until_ms(self) -> int | None:
        """Where the script waits for times and for no event: the first of them."""
        return self._history.timetable.sleeps_until() if self.waiting else None

    @property
    def undoing(self) -> bool:
        """Steps are being undone, or will be."""
        return self._history.rollback is not None

    @property
    def holding(self) -> bool:
        """A result that the script has asked for is held back until the script asks for other steps."""
        history, replay = self._history, self._history.replay
        return (replay.held > 0 and not replay.delivering) or (
            history.rollback is not None and undoing.is_gathering(history)
        )

    def awaited(self, limit: int) -> list[Operation]:
        """What the script waits for, soonest first."""
        return self._history.timetable.awaited(limit)

    def reserve(self, path: tuple[str, ...], name: str) -> tuple[StepKey, int]:
        """The key and the position of the next step of this name in this context.

        Called when the script calls the step, which may be before it is ready to be asked for.
        """
        named = self._occurrences.get(path)
        if named is None:
            named = self._occurrences[path] = {}
        count = named[name] = named.get(name, 0) + 1
        position = self._positions[path] = self._positions.get(path, 0) + 1
        return StepKey(path, name, count), position

    def apply(self, input: Input, now_ms: int) -> list[Effect]:
        """Take one input; the effects are to be performed in order. After the end, and after `Stopped`: none."""
        history = self._history
        if history.finished or history.over:
            return []
        history.effects, history.now_ms = [], now_ms
        match input:
            case AttemptSucceeded():
                op = history.operations.get(input.key)
                if op is not None and op.in_flight and op.attempt == input.attempt:
                    history.append(
                        StepSucceeded(
                            seq=history.seq + 1, at_ms=now_ms, key=input.key, value=input.value, cpu_us=input.cpu_us
                        )
                    )
            case StepRequested() | SleepRequested() | WaitRequested() | ValueRequested():
                history.replay.delivering = False  # the script has moved on, so it has reacted
                self._request(input)
            case AttemptRaised():
                op = history.operations.get(input.key)
                if op is not None and op.in_flight and op.attempt == input.attempt:
                    op.in_flight, op.cpu_us = False, input.cpu_us
                    attempt_failed(history, op, input.error, input.retryable, input.retry_after_ms)
            case DelayComputed():
                delay_computed(history, input)
            case TimerFired():
                history.due_ms = None
                expire(history)
            case EventArrived():
                history.timetable.buffer(input)
                match_events(history)
            case Delivered():
                history.replay.delivering = False
            case Stalled():
                delivery.stalled(history)
            case PauseAsked():
                commands.pause(history, input)
            case ResumeAsked():
                if commands.resume(history, input):
                    deferred, self._deferred = self._deferred, []
                    for request in deferred:
                        self._request(request)
                    commands.go_on(history)
            case TerminateAsked():
                commands.terminate(history, input, live=self.live)
            case RunReturned() | RunRaised():
                delivery.run_over(history, input, live=self.live, strict=self._strict)
            case RunStopped():
                undoing.run_stopped(history)
            case Woken():
                pass
            case Stopped():
                release(history)
            case _:
                assert_never(input)
        self._go_on()
        return history.effects

    def _go_on(self) -> None:
        history = self._history
        if history.finished or history.faulty:
            return
        if history.rollback is not None:
            if not history.over:
                undoing.go_on(history, history.rollback)
                if undoing.is_gathering(history):
                    delivery.deliver(history)
        elif history.pausing_ms is not None:
            if not history.paused:
                commands.settle_pause(history)
        else:
            delivery.deliver(history)
        if not history.finished:
            arm(history)

    # Requests

    def _request(self, request: Request) -> None:
        history = self._history
        if history.rollback is not None:
            undoing.request_while_undoing(history, history.rollback, request)
            return
        if history.pausing_ms is not None:
            self._deferred.append(request)
            return
        op = history.find(request.key)
        if op is None:
            self._begin(request)
            return
        assert not op.requested, "a key is reserved once"
        if drift.fits(history, op, request, strict=self._strict) and not history.replay.found(op):
            history.file(op)
            take_up(history, op)

    def _begin(self, request: Request) -> None:
        history = self._history
        if isinstance(request, StepRequested) and history.do_steps >= self._steps_max:
            text = (
                f"The limit of {self._steps_max} steps has been reached. "
                "This limit can be changed in your worker configuration."
            )
            history.effects.append(Refuse(request.key, ErrorRecord("WorkflowFatalError", text)))
            return
        if not drift.may_begin(history, request, strict=self._strict):
            return
        history.append(start_entry(request, history.seq + 1, history.now_ms))
        op = history.operations[request.key]
        history.ask(op)
        if isinstance(request, ValueRequested):
            history.append(StepSucceeded(seq=history.next, at_ms=history.now_ms, key=op.key, value=request.value))
        elif op.phase is Phase.DONE:
            history.replay.held += 1
        elif op.phase is Phase.RUNNING:
            run(history, op)
        else:
            match_events(history)
            expire(history)
