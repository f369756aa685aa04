"""What scripts import as `pyodide.http`."""

from __future__ import annotations

from typing import Any, NoReturn

from edge_runtime.compat.missing_names import refuse
from edge_runtime.promise import Promise
from edge_runtime.workers.abort import AbortError
from edge_runtime.workers.outgoing import fetch
from edge_runtime.workers.response import FetchResponse, Response
from edge_runtime.workers.status import HttpStatusError

__all__ = ["AbortError", "FetchResponse", "HttpStatusError", "pyfetch"]


def pyfetch(request: Any, /, **options: Any) -> Promise[Response]:
    """As `workers.fetch`."""
    return fetch(request, **options)


def __getattr__(name: str) -> NoReturn:
    refuse("pyodide.http", name, __all__)
