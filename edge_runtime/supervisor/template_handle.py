"""The supervisor's side of one template: its import is followed, isolates are forked from it, its end is noticed."""

from __future__ import annotations

import math
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from edge_runtime.config.model import WorkerLimits
from edge_runtime.control import (
    ForkIsolate,
    FromIsolate,
    IsolateExited,
    IsolateFailed,
    IsolateForked,
    MakeTemplate,
    TemplateFailed,
    TemplateLoaded,
)
from edge_runtime.errors import ScriptError, StartInterrupted, WireError
from edge_runtime.limits import CPU_KILL_SLACK_MS, STARTUP_MS, STARTUP_TOLD_S
from edge_runtime.metering.stack_file import StackReader
from edge_runtime.supervisor.blocked import answered_stack, importing_notice
from edge_runtime.supervisor.exit_status import ended_from_outside, how_ended
from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.printed import follow_output
from edge_runtime.supervisor.process_clock import ProcessClock
from edge_runtime.wire import Channel

_STATUS_WAIT_S: Final = 5.0
"""How long after the end of its channel a template's exit status is waited for."""

_OUTPUT_WAIT_S: Final = 1.0
"""How long what it printed last is waited for; a process that its script left behind may hold the pipe for ever."""

_STARTUP_LOOK_S: Final = 0.1
_FORK_WAIT_S: Final = 30.0
"""A template that does not fork within this is stuck, and killed."""

_GONE: Final = IsolateFailed("its template process is gone", "")


class TemplateHandle:
    """One loaded worker version, able to fork isolates until `close` or `ended`."""

    def __init__(self, task: MakeTemplate, channel: Channel) -> None:
        self.task = task
        self.ended = trio.Event()
        self.users = 0
        """Isolates forked from it that are not dead yet; they would die with it."""
        self._channel = channel
        self._loading = trio.CancelScope()
        self._exited = trio.Event()
        self._silent = trio.Event()
        self._status: int | None = None
        self._pidfd = -1
        self._isolates: dict[int, IsolateHandle] = {}
        self._answers: deque[tuple[trio.Event, list[IsolateHandle | IsolateFailed], Channel, WorkerLimits]] = deque()
        self._loaded: TemplateLoaded | None = None
        self._clock: ProcessClock | None = None
        self._overran = False
        self._forked_at_s = math.inf

    @property
    def unsafe(self) -> str | None:
        """Why isolates cannot be forked from what it has loaded; see `control.TemplateLoaded`."""
        assert self._loaded is not None
        return self._loaded.unsafe

    @property
    def startup_cpu_us(self) -> int:
        return 0 if self._loaded is None else self._loaded.startup_cpu_us

    async def fork(self, number: int, limits: WorkerLimits) -> IsolateHandle:
        """A new isolate, just forked; the caller runs its handle.

        Raises StartInterrupted if the template ended meanwhile, ScriptError if no process can be had from it.
        """
        ours, theirs = socket.socketpair()
        answered = trio.Event()
        answer: list[IsolateHandle | IsolateFailed] = []
        stuck = False
        channel = Channel(ours, FromIsolate)
        self._answers.append((answered, answer, channel, limits))
        self.users += 1
        try:
            await self._channel.send(ForkIsolate(number), (theirs.fileno(),))
            # Not abandoned half-way: the process would be there without anybody who knows it.
            with trio.CancelScope(shield=True):
                with trio.move_on_after(_FORK_WAIT_S):
                    await answered.wait()
                if not answered.is_set():
                    stuck = True
                    self.kill()
                    await answered.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            answer.append(_GONE)
        finally:
            theirs.close()
            if not (answer and isinstance(answer[0], IsolateHandle)):
                self.users -= 1
                channel.close()
        isolate = answer[0]
        if isinstance(isolate, IsolateFailed):
            kind = StartInterrupted if isolate is _GONE and not stuck else ScriptError
            raise kind(f"cannot start an isolate of worker {self.task.worker}: {isolate.message}")
        return isolate

    def close(self) -> None:
        """End the template process, and with it the isolates it forked."""
        self._channel.close()
        self.kill()

    async def gone(self) -> None:
        """After `close`: return when the zygote has reaped the process, so that no zombie outlives the zygote, and
        what it printed last has been read."""
        with trio.move_on_after(_STATUS_WAIT_S):
            await self._exited.wait()
        with trio.move_on_after(_OUTPUT_WAIT_S):
            await self._silent.wait()

    def kill(self) -> None:
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass  # reaped by the zygote already

    def forked(self, pid: int, pidfd: int) -> None:
        """The zygote has forked the process; from now on its import is timed."""
        self._pidfd = pidfd
        self._forked_at_s = trio.current_time()
        self._clock = ProcessClock(pid)
        self._loading.deadline = trio.current_time() + STARTUP_MS / 1000

    def reaped(self, status: int) -> None:
        """The zygote has reaped the process; `status` is as `os.waitpid` gives it."""
        self._status = status
        self._exited.set()

    async def watch_startup(self, stack: StackReader, notice: Callable[[str], None]) -> None:
        """Tell where an import is that takes long, and kill the process if it uses too much CPU time and cannot be
        stopped; returns when it is over."""
        try:
            allowed_ms, told = self.task.startup_cpu_ms + CPU_KILL_SLACK_MS, False
            while self._loaded is None and not self.ended.is_set():
                if self._clock is not None and self._clock.cpu_ms() > allowed_ms:
                    self._overran = True
                    self.kill()
                    return
                if not told and trio.current_time() - self._forked_at_s >= STARTUP_TOLD_S:
                    told = True
                    await self._tell_where(stack, notice)
                await trio.sleep(_STARTUP_LOOK_S)
        finally:
            stack.close()

    async def _tell_where(self, stack: StackReader, notice: Callable[[str], None]) -> None:
        stack.ask(self._pidfd)
        found = await answered_stack(stack.read)
        if self._loaded is None and not self.ended.is_set():
            notice(importing_notice(self.task.worker, trio.current_time() - self._forked_at_s, found))

    async def load(self) -> None:
        """Wait until the script is imported. Raises ScriptError, or StartInterrupted."""
        worker = self.task.worker
        with self._loading:
            received = await self._channel.receive()
        used_us = 0 if self._clock is None else self._clock.cpu_ms() * 1000
        if self._loading.cancelled_caught:
            self.kill()
            raise ScriptError(
                f"cannot load worker {worker}: importing its script took more than {STARTUP_MS} ms; do slow work and "
                "waiting in a handler, not at import time",
                cpu_us=used_us,
            )
        if received is None:
            with trio.move_on_after(_STATUS_WAIT_S):
                await self._exited.wait()
            how = "its script ended the process while it was imported"
            if self._overran:
                how = (
                    f"Script startup exceeded CPU time limit. (edge.startup_cpu_ms = {self.task.startup_cpu_ms} ms; it "
                    "was killed)"
                )
            elif self._status is not None and ended_from_outside(self._status):
                how = f"the process that imported its script is gone: {how_ended(self._status)}"
                raise StartInterrupted(f"cannot load worker {worker}: {how}", cpu_us=used_us)
            raise ScriptError(f"cannot load worker {worker}: {how}", cpu_us=used_us)
        match received[0]:
            case TemplateFailed(message=message, detail=detail, cpu_us=cpu_us):
                raise ScriptError(message, detail, cpu_us)
            case TemplateLoaded():
                self._loaded = received[0]
            case other:
                raise WireError(f"a template began with {type(other).__name__}")

    async def follow_output(self, pipe: int, printed: Callable[[str, str], None]) -> None:
        try:
            await follow_output(pipe, lambda line: printed(self.task.worker, line))
        finally:
            self._silent.set()

    async def run(self) -> None:
        """Follow a loaded template to its end."""
        try:
            while (received := await self._channel.receive()) is not None:
                self._take(*received)
        except (WireError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # all the same: its isolates are found dead by their pidfds
        finally:
            self.end()

    def end(self) -> None:
        """Let go of the process, which is gone or is to be: nobody waits for it any longer."""
        self._channel.close()
        self.kill()
        if self._clock is not None:
            self._clock.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        while self._answers:
            answered, answer, *_ = self._answers.popleft()
            answer.append(_GONE)
            answered.set()
        for isolate in self._isolates.values():
            isolate.exited.set()  # nobody is left to say how
        self.ended.set()

    def _take(self, message: object, descriptors: tuple[int, ...]) -> None:
        match message:
            case IsolateForked(pid=pid, isolate=number) if len(descriptors) == 1 and self._answers:
                answered, answer, channel, limits = self._answers.popleft()
                handle = IsolateHandle(number, pid, descriptors[0], channel, limits)
                self._isolates[number] = handle
                answer.append(handle)
                answered.set()
            case IsolateFailed() if self._answers:
                answered, answer, *_ = self._answers.popleft()
                answer.append(message)
                answered.set()
            case IsolateExited(isolate=number, status=status, cpu_us=cpu_us):
                isolate = self._isolates.pop(number, None)
                if isolate is not None:
                    isolate.status = status
                    isolate.cpu_us_at_end = cpu_us
                    isolate.exited.set()
            case _:
                for descriptor in descriptors:
                    os.close(descriptor)
