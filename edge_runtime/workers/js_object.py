"""What the stand-ins for JavaScript objects have in common, and the errors JavaScript code would have raised.

Scripts written for Cloudflare hold JavaScript values through Pyodide's proxies. Here those values are Python objects
of their own; `JsObject` gives them the proxy members that scripts use.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar, Final, Self

import sniffio

from edge_runtime.event import require_event


class Constructor:
    """What `proxy.constructor` answers: its `name` tells scripts the JavaScript class."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<constructor {self.name}>"


class JsObject:
    """Base of every stand-in; scripts know it as `pyodide.ffi.JsProxy`."""

    __slots__ = ()

    js_name: ClassVar[str | None] = None
    """The JavaScript class; None: the Python class name."""

    typeof: ClassVar[str] = "object"

    @classmethod
    def new(cls, *args: Any, **options: Any) -> Self:
        """Construct as JavaScript's `new` does; keyword arguments form one trailing options object."""
        make: Any = cls
        made: Self = make(*args, options) if options else make(*args)
        return made

    @property
    def constructor(self) -> Constructor:
        return Constructor(self.js_name or type(self).__name__)

    def to_py(self, **_options: Any) -> Any:
        """The Python value; for an object without one, itself."""
        return self

    def destroy(self) -> None:
        """Nothing to release here: Python's references are enough."""

    def _to_wire(self) -> Any:
        """The object as it crosses a boundary (`conversion.to_wire`). JsException: DataCloneError, for a class that
        does not say how."""
        raise data_clone_error(self)

    def _from_wire(self) -> Any:
        """What a script gets of the object where it arrives."""
        return self


class JsNull(Enum):
    """JavaScript's null as a value of its own, `pyodide.ffi.jsnull`; falsy, as null is."""

    NULL = "jsnull"

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "jsnull"


jsnull: Final = JsNull.NULL


class JsException(Exception):
    """An error that JavaScript code would have thrown; `name` is the JavaScript error class."""

    def __init__(self, message: str, name: str = "Error") -> None:
        self.name = name
        self.message = message
        self.stack = ""
        super().__init__(f"{name}: {message}")


def data_clone_error(value: object) -> JsException:
    """The error of structured clone for a value that it cannot carry."""
    return JsException(
        f'Could not serialize object of type "{type(value).__name__}". This type does not support serialization.',
        "DataCloneError",
    )


async def on_trio(work: Any, *args: object) -> Any:
    """Await the runtime's trio function `work` from a script's task of either flavour."""
    if sniffio.thread_local.name != "asyncio":
        return await work(*args)
    return await require_event("this operation").spawn(work, *args)
