"""JavaScript's JSON object."""

from __future__ import annotations

import json
from typing import Any

from edge_runtime.workers.js_date import JsDate
from edge_runtime.workers.js_object import JsNull
from edge_runtime.workers.js_values import JsArray, JsDict


def stringify(value: Any, replacer: object = None, space: int | str | None = None) -> str:
    """JSON text as JavaScript writes it: without blanks unless `space` asks for them."""
    separators = (",", ": ") if space else (",", ":")
    return json.dumps(value, separators=separators, indent=space or None, ensure_ascii=False, default=_encode)


def parse(text: str) -> Any:
    return json.loads(text, object_hook=JsDict)


def _encode(value: object) -> Any:
    if isinstance(value, JsDate):
        return value.toISOString()
    if isinstance(value, JsNull):
        return None
    if isinstance(value, (set, tuple, JsArray)):
        return list(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
