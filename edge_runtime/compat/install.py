"""Putting the modules that scripts import (`workers`, `js`, `pyodide`, `asgi`) where Python finds them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

from edge_runtime.compat.metered_processes import meter_processes
from edge_runtime.compat.metered_threads import meter_threads
from edge_runtime.compat.metered_trio import meter_trio
from edge_runtime.compat.waking_signals import watch_handlers
from edge_runtime.metering.loop_thread import exit_at_once

_PACKAGE: Final = "edge_runtime.workers"

_STANDS_FOR: Final = {
    "workers": _PACKAGE,
    "workers.asgi": "edge_runtime.compat.asgi",
    "workers.wsgi": "edge_runtime.compat.wsgi",
    "workers.utils": "edge_runtime.compat.sdk_names",
    # `from workers import asgi` asks for the package's own name.
    f"{_PACKAGE}.asgi": "edge_runtime.compat.asgi",
    f"{_PACKAGE}.wsgi": "edge_runtime.compat.wsgi",
    f"{_PACKAGE}.utils": "edge_runtime.compat.sdk_names",
    "asgi": "edge_runtime.compat.asgi",
    "js": "edge_runtime.compat.js",
    "pyodide": "edge_runtime.compat.pyodide",
    "pyodide.code": "edge_runtime.compat.pyodide_code",
    "pyodide.ffi": "edge_runtime.compat.pyodide_ffi",
    "pyodide.http": "edge_runtime.compat.pyodide_http",
}


class StandIns(MetaPathFinder, Loader):
    """Finder and loader of the names above. One module object serves under both its names, so classes are the same.

    The modules are imported when a script first asks: libraries that look for "pyodide" in `sys.modules` to learn where
    they run are not misled by a script that does not use it.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        real = _STANDS_FOR.get(name)
        if real is None and name.startswith("workers."):
            real = _PACKAGE + name.removeprefix("workers")
            if importlib.util.find_spec(real) is None:
                return None
        if real is None:
            return None
        spec = ModuleSpec(name, self, origin=real, is_package=name in ("workers", "pyodide"))
        spec.loader_state = real
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.loader_state)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has been run under its real name; undo what the import system wrote over it."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install_modules() -> None:
    """Let `import workers` and the other names work in this process, the script's threads and processes be metered, and
    its signals wake the event loop. Calling it again changes nothing.

    They win over installed packages of the same names: a vendored workers-runtime-sdk is for Pyodide.
    """
    if not any(isinstance(finder, StandIns) for finder in sys.meta_path):
        sys.meta_path.insert(0, StandIns())
    sys.modules["workers"] = importlib.import_module(_PACKAGE)
    meter_trio()
    meter_threads()
    meter_processes()
    watch_handlers()
    os._exit = exit_at_once
