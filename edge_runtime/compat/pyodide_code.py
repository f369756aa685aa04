"""What scripts import as `pyodide.code`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from edge_runtime.compat.missing_names import refuse
from edge_runtime.workers.exports import relaxed_call_args

__all__ = ["relaxed_call", "run_js"]


def relaxed_call(func: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call `func` with as many of `args` as it takes by position."""
    return func(*relaxed_call_args(func, args), **options)


def run_js(code: str, /) -> NoReturn:
    """NotImplementedError: there is no JavaScript engine here."""
    raise NotImplementedError("run_js() is not available: scripts run on CPython, without a JavaScript engine")


def __getattr__(name: str) -> NoReturn:
    refuse("pyodide.code", name, __all__)
