"""The zygote: a single-threaded process with the isolate's modules imported, from which templates are forked.

It is forked from the `edge` process before trio runs there and before any thread exists. It opens no store, knows no
secrets and runs no script. It ends when its channel does.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_runtime.supervisor.process_tree import Children, fork, leave_terminal, print_to

if TYPE_CHECKING:
    from edge_runtime.control import MakeTemplate
    from edge_runtime.supervisor.template import ScriptRuntime


@dataclass(frozen=True, slots=True)
class ZygoteHandle:
    """The parent's side: the control socket (not yet wrapped in a channel) and a pidfd, both the holder's to close."""

    pid: int
    pidfd: int
    control: socket.socket

    def kill(self) -> None:
        """End the zygote and everything below it, and wait for the zygote itself."""
        self.control.close()
        signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)


def import_runtime() -> ScriptRuntime:
    """Import everything an isolate needs; the zygote's share of the start."""
    from edge_runtime.supervisor.template import script_runtime

    return script_runtime()


def start_zygote(runtime: Callable[[], ScriptRuntime] = import_runtime) -> ZygoteHandle:
    """Fork the zygote. Call it first thing, while this process has one thread and nothing open.

    Importing the runtime goes on in the zygote while the caller continues; requests wait for it. `runtime` is called
    in the zygote: tests put their own loader and isolate in place with it.
    """
    ours, theirs = socket.socketpair()

    def child() -> int:
        ours.close()
        leave_terminal()
        # Memory holds secrets: no core files, unless a script asks for them.
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        return _Zygote(theirs, runtime()).run()

    try:
        pid = fork(child, "edge-zygote")
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return ZygoteHandle(pid, os.pidfd_open(pid), ours)


class _Zygote:
    def __init__(self, control: socket.socket, runtime: ScriptRuntime) -> None:
        from edge_runtime.control import MakeTemplate
        from edge_runtime.wire import BlockingChannel

        self._runtime = runtime
        self._channel = BlockingChannel(control, MakeTemplate)
        self._children = Children(self._channel.fileno())

    def run(self) -> int:
        """Fork templates until the channel ends. Returns the exit code."""
        gc.collect()
        gc.freeze()
        try:
            return self._serve()
        except (BrokenPipeError, ConnectionResetError):
            return 0

    def _serve(self) -> int:
        from edge_runtime.control import MakeTemplate, TemplateExited

        while True:
            if not self._channel.has_frame:
                readable, ended = self._children.wait()
                for pid, status, _ in ended:
                    self._channel.send(TemplateExited(pid, status))
                if not readable:
                    continue
            received = self._channel.receive()
            if received is None:
                return 0
            task, (control, output, stack) = received
            assert isinstance(task, MakeTemplate)
            self._fork_template(task, socket.socket(fileno=control), output, stack)
            os.close(output)
            os.close(stack)

    def _fork_template(self, task: MakeTemplate, control: socket.socket, output: int, stack: int) -> None:
        from edge_runtime.control import TemplateFailed, TemplateForked
        from edge_runtime.supervisor.template import Template
        from edge_runtime.wire import BlockingChannel

        def child() -> int:
            self._channel.close()
            self._children.forget()
            print_to(output)
            return Template(control, task, self._runtime, stack).run()

        try:
            pid = fork(child, "edge-template")
        except OSError as error:
            reason = f"cannot start worker {task.worker}: the system refused a new process ({error.strerror})"
            BlockingChannel(control).send(TemplateFailed(reason, ""))
        else:
            self._channel.send(TemplateForked(task.worker, task.version, pid), (self._children.add(pid),))
        control.close()
