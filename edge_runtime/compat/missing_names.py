"""Errors for names that a stand-in module does not have."""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable
from typing import NoReturn

_IMPORT_FROM = dis.opmap["IMPORT_FROM"]


def refuse(module: str, name: str, available: Iterable[str]) -> NoReturn:
    """Raise AttributeError, or ImportError in a `from ... import` statement; either says what there is.

    To be called by a module's `__getattr__`. (Python would replace an AttributeError's text in an import.)
    """
    message = f"{module} has no {name!r} in this runtime; available: {', '.join(sorted(available))}"
    frame = sys._getframe(2)
    if not name.startswith("__") and frame.f_code.co_code[frame.f_lasti] == _IMPORT_FROM:
        raise ImportError(message, name=module)
    raise AttributeError(message, name=name)
