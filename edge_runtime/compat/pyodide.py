"""What scripts import as `pyodide`. The version is the one whose names these modules follow."""

from __future__ import annotations

from typing import NoReturn

from edge_runtime.compat.missing_names import refuse

__version__ = "0.28.2"
__all__ = ["__version__"]
__path__: list[str] = []


def __getattr__(name: str) -> NoReturn:
    refuse("pyodide", name, ["code", "ffi", "http"])
