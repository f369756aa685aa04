"""Loading a worker's script: its modules imported, its classes found, its `env` begun."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType, TracebackType

from edge_runtime.compat.install import install_modules
from edge_runtime.config.model import WorkerConfig
from edge_runtime.errors import CpuLimitExceeded, ScriptError
from edge_runtime.isolate.script.startup_limit import limited_startup
from edge_runtime.tracebacks import script_traceback
from edge_runtime.workers.environment import Env, declare_bindings, env, fill_env
from edge_runtime.workers.exports import Exports, discover, positional_capacity

_RUNTIME_PACKAGES = ("bindings", "apps", "bench", "tests")
"""Our packages whose names a script may well use for modules of its own."""


@dataclass(frozen=True, slots=True)
class LoadedScript:
    module: ModuleType | None
    """None for a worker of static assets alone."""
    exports: Exports
    env: Env
    """Holds vars and secrets already; bindings are added in the isolate."""


def load_script(config: WorkerConfig) -> LoadedScript:
    """Import the worker's main module and find its entrypoints.

    `sys.path` must have the main module's folder first. Raises ScriptError, with the script's traceback as `detail`,
    for whatever the script does wrong, SystemExit included.
    """
    install_modules()
    fill_env(env, {**config.vars, **config.secrets})
    declare_bindings(env, [binding.name for binding in config.bindings if binding.name])
    if config.main is None:
        return LoadedScript(None, Exports(), env)
    if not config.main.is_file():
        raise ScriptError(f"cannot load worker {config.name}: main names {config.main}, which is not a file")
    _uncover(config.main.parent)
    name = config.main.stem
    try:
        with limited_startup(config.limits.startup_cpu_ms):
            module = importlib.import_module(name)
        exports = discover(
            module,
            global_handlers_allowed=not config.flag(
                "python_no_global_handlers", default_from="2025-08-14", off="disable_python_no_global_handlers"
            ),
        )
    except BaseException as error:
        raise _script_error(config, error) from error
    file = getattr(module, "__file__", None)
    if file is None or Path(file).resolve() != config.main.resolve():
        raise ScriptError(
            f"cannot load worker {config.name}: the name {name!r} of its main module {config.main.name} is taken by "
            f"{file or 'a built-in module'}; rename the script"
        )
    for handler in (getattr(exports.default, "fetch", None), exports.global_handlers.get("fetch")):
        if isinstance(handler, FunctionType):
            positional_capacity(handler)  # here rather than at the first request of each isolate
    return LoadedScript(module, exports, env)


def _uncover(folder: Path) -> None:
    """Let the script import its own modules where they share a name with a package of this runtime."""
    for package in _RUNTIME_PACKAGES:
        if (folder / f"{package}.py").exists() or (folder / package).is_dir():
            for loaded in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
                del sys.modules[loaded]


def _script_error(config: WorkerConfig, error: BaseException) -> ScriptError:
    assert config.main is not None
    what = f"cannot load worker {config.name} from {config.main.name}"
    own = error.with_traceback(_own_frames(error, config.main.parent))
    detail = script_traceback(own)
    if isinstance(error, SyntaxError):
        place = f" ({Path(error.filename).name}, line {error.lineno})" if error.filename else ""
        return ScriptError(f"{what}: {error.msg}{place}", detail)
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        hint = ""
        top = error.name.partition(".")[0]
        if error.name == config.main.parent.name:
            hint = f"; the folder of main is the root of imports: drop '{top}.'"
        elif not (config.main.parent / top).exists():
            hint = "; name its package under [project] dependencies in the worker's pyproject.toml"
        return ScriptError(f"{what}: no module named {error.name!r}{hint}", detail)
    if isinstance(error, CpuLimitExceeded):
        return ScriptError(f"{what}: {error} (edge.startup_cpu_ms = {config.limits.startup_cpu_ms} ms)", detail)
    if isinstance(error, SystemExit):
        return ScriptError(f"{what}: the script called sys.exit({error.code!r}) while it was imported", detail)
    return ScriptError(f"{what}: {type(error).__name__}: {error}", detail)


def _own_frames(error: BaseException, folder: Path) -> TracebackType | None:
    """The traceback from the first frame inside the worker's folder on; None when no code of it ran."""
    frame = error.__traceback__
    while frame is not None and not frame.tb_frame.f_code.co_filename.startswith(str(folder)):
        frame = frame.tb_next
    return frame
