"""A template: one worker version imported once, from which its isolates are forked in milliseconds.

It runs in a process of its own, forked by the zygote: single-threaded, without event loop and store. It ends when its
channel does, and its isolates end with it.
"""

from __future__ import annotations

import gc
import importlib
import os
import random
import resource
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from edge_runtime.config.model import WorkerConfig, pinned_config
from edge_runtime.control import (
    ForkIsolate,
    IsolateExited,
    IsolateFailed,
    IsolateForked,
    MakeTemplate,
    TemplateFailed,
    TemplateLoaded,
)
from edge_runtime.errors import EdgeError
from edge_runtime.limits import ERROR_DETAIL_MAX, MIB, RUNTIME_MEMORY_SPARE
from edge_runtime.memory import trim
from edge_runtime.metering.stack_file import stack_shown_in
from edge_runtime.supervisor.process_tree import Children, fork
from edge_runtime.wire import BlockingChannel

EXIT_NOT_LOADED: Final = 3
_OOM_SCORE: Final = b"500"

_SHARED_BY_FORK: Final = ("socket:", "pipe:", "anon_inode:[eventpoll]", "anon_inode:[eventfd]")
"""Descriptors through which forked copies would disturb each other."""


@dataclass(frozen=True, slots=True)
class ScriptRuntime:
    """What templates and isolates run; tests put their own in place."""

    read_config: Callable[[MakeTemplate], WorkerConfig]
    load_script: Callable[[WorkerConfig], Any]
    run_isolate: Callable[[socket.socket, MakeTemplate, Any, WorkerConfig], int]


def script_runtime() -> ScriptRuntime:
    """The real one; the call imports it."""
    from pathlib import Path

    from bindings.kind import load_kinds
    from edge_runtime.config.load import load_config
    from edge_runtime.isolate.boot import run_isolate
    from edge_runtime.isolate.script.loader import load_script
    from edge_runtime.isolate.warm_up import warm_up

    warm_up()
    kinds = load_kinds()

    def read_config(task: MakeTemplate) -> WorkerConfig:
        config = load_config(Path(task.config_file), kinds, environment=task.environment)
        config = replace(config, vars={**config.vars, **dict(task.variables)})
        return pinned_config(config, task.version) if task.pinned else config

    return ScriptRuntime(read_config, load_script, run_isolate)


class Template:
    def __init__(self, control: socket.socket, task: MakeTemplate, runtime: ScriptRuntime, stack: int) -> None:
        self._channel = BlockingChannel(control, ForkIsolate)
        self._children = Children(self._channel.fileno())
        self._isolates: dict[int, int] = {}
        self._task = task
        self._runtime = runtime
        self._stack = stack
        self._config: WorkerConfig
        self._script: Any = None

    def run(self) -> int:
        """Load the script, then fork isolates until the channel ends. Returns the exit code."""
        try:
            with stack_shown_in(self._stack):
                loaded = self._load()
            os.close(self._stack)
        except EdgeError as error:
            detail = getattr(error, "detail", "")[-ERROR_DETAIL_MAX:]
            self._channel.send(TemplateFailed(str(error), detail, time.process_time_ns() // 1000))
            return EXIT_NOT_LOADED
        except BaseException as error:
            reason = f"cannot load worker {self._task.worker}: {type(error).__name__}: {error}"
            self._channel.send(TemplateFailed(reason, traceback.format_exc()[-ERROR_DETAIL_MAX:]))
            return EXIT_NOT_LOADED
        _tidy_memory()
        self._children.keep_others()
        try:
            self._channel.send(loaded)
            return self._serve()
        except (BrokenPipeError, ConnectionResetError):
            return 0

    def _serve(self) -> int:
        while True:
            if not self._channel.has_frame:
                readable, ended = self._children.wait()
                for pid, status, cpu_us in ended:
                    self._channel.send(IsolateExited(self._isolates.pop(pid), status, cpu_us))
                if not readable:
                    continue
            received = self._channel.receive()
            if received is None:
                return 0
            request, descriptors = received
            assert isinstance(request, ForkIsolate)
            self._fork_isolate(request.isolate, socket.socket(fileno=descriptors[0]))

    def _load(self) -> TemplateLoaded:
        self._config = self._runtime.read_config(self._task)
        self._extend_path()
        if not self._task.preload:
            return TemplateLoaded(0, None)
        before = _shared_descriptors()
        started_ns = time.process_time_ns()
        self._script = self._runtime.load_script(self._config)
        cpu_us = (time.process_time_ns() - started_ns) // 1000
        return TemplateLoaded(cpu_us, _why_unsafe(before))

    def _extend_path(self) -> None:
        """The folder of main comes first, as on Cloudflare, then the worker's own packages, then what we run on."""
        root = self._config.root if self._config.main is None else self._config.main.parent
        first = [str(root), *self._task.site_dirs]
        rest = [entry for entry in sys.path if entry and entry not in first]
        sys.path[:] = [*first, *rest]
        importlib.invalidate_caches()

    def _fork_isolate(self, number: int, control: socket.socket) -> None:
        def child() -> int:
            os.setpgid(0, 0)  # a script that signals its process group reaches itself only
            self._channel.close()
            self._children.forget()
            _reseed()
            _limit_memory(self._config.limits.memory_mb)
            return self._runtime.run_isolate(control, self._task, self._script, self._config)

        try:
            pid = fork(child, "edge-isolate")
        except OSError as error:
            self._channel.send(IsolateFailed(f"the system refused a new process ({error.strerror})", ""))
        else:
            self._isolates[pid] = number
            self._channel.send(IsolateForked(pid, number), (self._children.add(pid),))
        control.close()


def _shared_descriptors() -> set[tuple[str, str]]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of this listing
        if target.startswith(_SHARED_BY_FORK):
            found.add((name, target))
    return found


def _why_unsafe(before: set[tuple[str, str]]) -> str | None:
    """Why forked copies of this process would not work; None when they will."""
    reasons = []
    threads = len(os.listdir("/proc/self/task")) - 1
    if threads:
        reasons.append(f"started {threads} {'thread' if threads == 1 else 'threads'}")
    opened = len(_shared_descriptors() - before)
    if opened:
        reasons.append(f"opened {opened} {'socket or pipe' if opened == 1 else 'sockets or pipes'}")
    return f"the import {' and '.join(reasons)}" if reasons else None


def _limit_memory(megabytes: int) -> None:
    """Let allocations fail beyond the limit; LMDB's map is shared and does not count. What is above it, the runtime may
    have for its threads. And if the machine runs out of memory all the same, let the kernel choose an isolate, not the
    server."""
    limit = megabytes * MIB
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    highest = limit + RUNTIME_MEMORY_SPARE
    if hard == resource.RLIM_INFINITY or limit < hard:
        highest = highest if hard == resource.RLIM_INFINITY else min(highest, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, highest))
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    try:
        os.write(score, _OOM_SCORE)
    finally:
        os.close(score)


def _tidy_memory() -> None:
    """Leave as little as possible that an isolate would have to copy: nothing to collect, and no free memory that
    malloc would clear and hand out again in each of them."""
    gc.collect()
    gc.freeze()
    trim()


def _reseed() -> None:
    """Random state that was copied by the fork would repeat in every isolate of the template."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
