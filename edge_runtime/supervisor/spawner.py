"""The supervisor's side of the zygote: has templates forked and scripts loaded, and learns how templates end."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable

import msgspec
import trio

from edge_runtime.control import FromTemplate, FromZygote, MakeTemplate, TemplateExited, TemplateForked
from edge_runtime.errors import EdgeError
from edge_runtime.metering.stack_file import StackReader
from edge_runtime.supervisor.template_handle import TemplateHandle
from edge_runtime.supervisor.zygote import ZygoteHandle
from edge_runtime.wire import Channel


class ZygoteDied(EdgeError):
    """No process can be started any more; the server has to end."""


class Spawner:
    """All templates of a server. `run` must be running for anything to be made."""

    def __init__(
        self, zygote: ZygoteHandle, printed: Callable[[str, str], None], notice: Callable[[str], None]
    ) -> None:
        """`printed(worker, line)` is told what scripts print, `notice(text)` what their authors should know."""
        self._printed = printed
        self._notice = notice
        self._channel = Channel(zygote.control, FromZygote)
        self._waiting: dict[tuple[str, str], deque[TemplateHandle]] = {}
        self._by_pid: dict[int, TemplateHandle] = {}
        self._nursery: trio.Nursery

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Raises ZygoteDied if the zygote ends by itself."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                while (received := await self._channel.receive()) is not None:
                    self._take(*received)
            except trio.BrokenResourceError:
                pass  # as the end of the stream
            raise ZygoteDied("the process that starts workers ended unexpectedly; what it printed says why")

    async def load(self, task: MakeTemplate) -> TemplateHandle:
        """A template with the script of `task` imported.

        A script whose import starts threads or opens sockets is loaded again, to be imported in each isolate. Raises
        ScriptError if it does not load, StartInterrupted if its process was ended from outside.
        """
        template = await self._load(task)
        if template.unsafe is not None:
            template.close()
            template = await self._load(msgspec.structs.replace(task, preload=False))
        return template

    def close(self) -> None:
        self._channel.close()

    async def _load(self, task: MakeTemplate) -> TemplateHandle:
        ours, theirs = socket.socketpair()
        output, theirs_output = os.pipe()
        stack = StackReader(where := os.memfd_create("edge-stack"))
        template = TemplateHandle(task, Channel(ours, FromTemplate))
        self._nursery.start_soon(template.follow_output, output, self._printed)
        waiting = self._waiting.setdefault((task.worker, task.version), deque())
        waiting.append(template)
        try:
            try:
                await self._channel.send(task, (theirs.fileno(), theirs_output, where))
            except BaseException:
                stack.close()
                raise
            finally:
                theirs.close()
                os.close(theirs_output)
            self._nursery.start_soon(template.watch_startup, stack, self._notice)
            await template.load()
        except BaseException as error:
            if template in waiting:
                waiting.remove(template)
            template.end()
            if isinstance(error, trio.BrokenResourceError):
                raise ZygoteDied("the process that starts workers is gone") from error
            raise
        self._nursery.start_soon(template.run)
        return template

    def _take(self, message: object, descriptors: tuple[int, ...]) -> None:
        match message:
            case TemplateForked(worker=worker, version=version, pid=pid) if len(descriptors) == 1:
                waiting = self._waiting.get((worker, version))
                if not waiting:
                    # Given up while it was forked; its channel is closed already, so it ends by itself.
                    os.close(descriptors[0])
                    return
                template = waiting.popleft()
                template.forked(pid, descriptors[0])
                self._by_pid[pid] = template
            case TemplateExited(pid=pid, status=status):
                ended = self._by_pid.pop(pid, None)
                if ended is not None:
                    ended.reaped(status)
            case _:
                for descriptor in descriptors:
                    os.close(descriptor)
