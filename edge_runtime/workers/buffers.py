"""Binary values as JavaScript has them: ArrayBuffer, typed arrays, DataView, and the bytes of a stream's pieces."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, cast

from edge_runtime.workers.js_object import JsObject


class ArrayBuffer(JsObject, bytearray):
    """A block of bytes. Python's buffer protocol works on it: `memoryview(buffer)`, `bytes(buffer)`."""

    __slots__ = ()

    @property
    def byteLength(self) -> int:
        return len(self)

    def to_py(self, **_options: Any) -> memoryview:
        return memoryview(self)

    def to_bytes(self) -> bytes:
        return bytes(self)

    def to_memoryview(self) -> memoryview:
        return memoryview(self)

    def to_string(self, encoding: str = "utf-8") -> str:
        return self.decode(encoding)

    def slice(self, start: int = 0, end: int | None = None) -> ArrayBuffer:
        return ArrayBuffer(self[start:end])

    def __repr__(self) -> str:
        return f"<ArrayBuffer of {len(self)} bytes>"


class JsBytes(JsObject, bytes):
    """Python bytes that also answer as a Uint8Array: a piece of a stream, or `to_js(bytes)`."""

    __slots__ = ()
    js_name = "Uint8Array"

    @property
    def byteLength(self) -> int:
        return len(self)

    @property
    def length(self) -> int:
        return len(self)

    @property
    def buffer(self) -> ArrayBuffer:
        return ArrayBuffer(self)

    def to_py(self, **_options: Any) -> memoryview:
        return memoryview(self)

    def to_bytes(self) -> bytes:
        return bytes(self)

    def to_memoryview(self) -> memoryview:
        return memoryview(self)

    def to_string(self, encoding: str = "utf-8") -> str:
        return self.decode(encoding)


class TypedArray(JsObject):
    """A view of numbers on an ArrayBuffer.

    Made from a length, from numbers, from another binary value (its elements are copied), or on an ArrayBuffer
    (shared) with an offset in bytes and a length in elements. Numbers are wrapped as JavaScript wraps them.
    """

    __slots__ = ("_view", "buffer", "byteOffset")
    format: ClassVar[str] = "B"
    BYTES_PER_ELEMENT: ClassVar[int] = 1

    def __init__(self, source: object = 0, byteOffset: int = 0, length: int | None = None) -> None:
        size = self.BYTES_PER_ELEMENT
        if isinstance(source, ArrayBuffer):
            self.buffer = source
            self.byteOffset = byteOffset
            end = len(source) if length is None else byteOffset + length * size
            if byteOffset % size or (end - byteOffset) % size or end > len(source):
                raise ValueError(f"{type(self).__name__}: offset and length must be whole elements within the buffer")
            self._view = memoryview(source)[byteOffset:end].cast(cast(Any, self.format))
            return
        if isinstance(source, int):
            self.buffer = ArrayBuffer(source * size)
        elif isinstance(source, (bytes, bytearray, memoryview)) and size == 1:
            self.buffer = ArrayBuffer(source)
        else:
            numbers = [self._wrap(number) for number in cast("Iterable[Any]", source)]
            self.buffer = ArrayBuffer(struct.pack(f"={len(numbers)}{self.format}", *numbers))
        self.byteOffset = 0
        self._view = memoryview(self.buffer).cast(cast(Any, self.format))

    @classmethod
    def of(cls, *numbers: object) -> TypedArray:
        return cls(numbers)

    from_ = of

    def _wrap(self, number: Any) -> Any:
        if self.format in "efd":
            return float(number)
        bits = 8 * self.BYTES_PER_ELEMENT
        whole = int(float(number)) if isinstance(number, str) else int(number)
        whole &= (1 << bits) - 1
        return whole - (1 << bits) if self.format.islower() and whole >> (bits - 1) else whole

    @property
    def length(self) -> int:
        return len(self._view)

    @property
    def byteLength(self) -> int:
        return self._view.nbytes

    def subarray(self, start: int = 0, end: int | None = None) -> TypedArray:
        """A view on the same buffer, from element `start` to before `end`."""
        first, last, _ = slice(start, end).indices(len(self._view))
        return type(self)(self.buffer, self.byteOffset + first * self.BYTES_PER_ELEMENT, max(last - first, 0))

    def slice(self, start: int = 0, end: int | None = None) -> TypedArray:
        """A copy of the elements from `start` to before `end`."""
        return type(self)(self._view[start:end].tolist())

    def set(self, numbers: Iterable[Any], offset: int = 0) -> None:
        for index, number in enumerate(numbers, offset):
            self[index] = number

    def to_py(self, **_options: Any) -> memoryview:
        return self._view

    def to_bytes(self) -> bytes:
        return self._view.tobytes()

    def to_memoryview(self) -> memoryview:
        return self._view

    def to_string(self, encoding: str = "utf-8") -> str:
        return self.to_bytes().decode(encoding)

    def assign(self, source: bytes | bytearray | memoryview) -> None:
        """Overwrite the bytes with those of `source`, which has the same size."""
        memoryview(self.buffer)[self.byteOffset : self.byteOffset + self.byteLength] = memoryview(source).cast("B")

    def __len__(self) -> int:
        return len(self._view)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._view.tolist())

    def __getitem__(self, index: int) -> Any:
        return self._view[index]

    def __setitem__(self, index: int, number: object) -> None:
        self._view[index] = self._wrap(number)

    def __bytes__(self) -> bytes:
        return self.to_bytes()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TypedArray):
            return type(self) is type(other) and self.to_bytes() == other.to_bytes()
        return NotImplemented

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<{self.js_name or type(self).__name__} of {len(self)}>"


class Uint8Array(TypedArray):
    __slots__ = ()


class Uint8ClampedArray(TypedArray):
    __slots__ = ()

    def _wrap(self, number: Any) -> Any:
        return min(max(round(float(number)), 0), 255)


class Int8Array(TypedArray):
    __slots__ = ()
    format = "b"


class Uint16Array(TypedArray):
    __slots__ = ()
    format = "H"
    BYTES_PER_ELEMENT = 2


class Int16Array(TypedArray):
    __slots__ = ()
    format = "h"
    BYTES_PER_ELEMENT = 2


class Uint32Array(TypedArray):
    __slots__ = ()
    format = "I"
    BYTES_PER_ELEMENT = 4


class Int32Array(TypedArray):
    __slots__ = ()
    format = "i"
    BYTES_PER_ELEMENT = 4


class BigUint64Array(TypedArray):
    __slots__ = ()
    format = "Q"
    BYTES_PER_ELEMENT = 8


class BigInt64Array(TypedArray):
    __slots__ = ()
    format = "q"
    BYTES_PER_ELEMENT = 8


class Float32Array(TypedArray):
    __slots__ = ()
    format = "f"
    BYTES_PER_ELEMENT = 4


class Float64Array(TypedArray):
    __slots__ = ()
    format = "d"
    BYTES_PER_ELEMENT = 8


class DataView(JsObject):
    """Bytes of an ArrayBuffer, from `byteOffset` on; read and written through `to_memoryview()`."""

    __slots__ = ("_view", "buffer", "byteOffset")

    def __init__(self, buffer: ArrayBuffer, byteOffset: int = 0, byteLength: int | None = None) -> None:
        end = len(buffer) if byteLength is None else byteOffset + byteLength
        if byteOffset < 0 or end > len(buffer):
            raise ValueError(f"DataView: bytes {byteOffset} to {end} are outside of the buffer of {len(buffer)} bytes")
        self.buffer = buffer
        self.byteOffset = byteOffset
        self._view = memoryview(buffer)[byteOffset:end]

    @property
    def byteLength(self) -> int:
        return len(self._view)

    def getUint8(self, offset: int) -> int:
        return self._view[offset]

    def setUint8(self, offset: int, value: int) -> None:
        self._view[offset] = value & 0xFF

    def to_py(self, **_options: Any) -> memoryview:
        return self._view

    def to_bytes(self) -> bytes:
        return self._view.tobytes()

    def to_memoryview(self) -> memoryview:
        return self._view

    def __bytes__(self) -> bytes:
        return self.to_bytes()


def as_bytes(value: object) -> bytes | None:
    """The bytes of a binary value, JavaScript's or Python's; None for anything else."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (TypedArray, DataView)):
        return value.to_bytes()
    return None
