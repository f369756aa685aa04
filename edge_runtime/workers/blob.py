"""Blob and File: immutable bytes with a content type, and with a name."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeAlias, Union

from edge_runtime.workers.buffers import ArrayBuffer, as_bytes
from edge_runtime.workers.js_object import JsObject
from edge_runtime.workers.streams import ReadableStream

_Bytes = bytes

BlobValue: TypeAlias = Union[str, bytes, bytearray, memoryview, ArrayBuffer, "Blob"]


class BlobEnding(StrEnum):
    TRANSPARENT = "transparent"
    NATIVE = "native"


class Blob(JsObject):
    """Bytes with a content type. Made from one part or from an iterable of parts."""

    __slots__ = ("content_type", "data")

    def __init__(
        self,
        blob_parts: Iterable[BlobValue] | BlobValue = (),
        content_type: str | Mapping[str, Any] | None = None,
        endings: BlobEnding | str | None = None,
    ) -> None:
        """Make a blob.

        Args:
            content_type: None: that of a single Blob given as it is, else "".
            endings: "native" turns line ends of text parts into the platform's, "\\n".
        Raises:
            TypeError: a part is neither text, nor binary, nor a Blob.
        """
        if isinstance(content_type, Mapping):
            endings = content_type.get("endings", endings)
            content_type = content_type.get("type")
        if content_type is None and isinstance(blob_parts, Blob):
            content_type = blob_parts.content_type
        self.content_type: str = content_type or ""
        native = str(endings) == BlobEnding.NATIVE
        self.data = b"".join([_part_bytes(part, native) for part in _parts(blob_parts)])

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def type(self) -> str:
        return self.content_type

    @property
    def js_object(self) -> Blob:
        return self

    def _to_wire(self) -> Blob:
        return self

    async def text(self) -> str:
        return self.data.decode("utf-8", "replace")

    async def bytes(self) -> _Bytes:
        return self.data

    async def arrayBuffer(self) -> ArrayBuffer:
        return ArrayBuffer(self.data)

    def stream(self) -> ReadableStream:
        return ReadableStream.of_bytes(self.data)

    def slice(self, start: int | None = None, end: int | None = None, content_type: str | None = None) -> Blob:
        """Bytes from `start` to before `end`; negative positions count from the end."""
        return Blob([self.data[start:end]], content_type=content_type)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, content_type={self.content_type!r})"


class File(Blob):
    """A Blob with a file name and a time of last modification in milliseconds since the epoch."""

    __slots__ = ("last_modified", "name")

    def __init__(
        self,
        blob_parts: Iterable[BlobValue] | BlobValue,
        filename: str,
        content_type: str | Mapping[str, Any] | None = None,
        endings: BlobEnding | str | None = None,
        last_modified: int | None = None,
    ) -> None:
        if isinstance(content_type, Mapping):
            last_modified = content_type.get("lastModified", last_modified)
        super().__init__(blob_parts, content_type, endings)
        self.name = filename
        if not last_modified and isinstance(blob_parts, File):
            last_modified = blob_parts.last_modified
        self.last_modified: int = last_modified or time.time_ns() // 1_000_000

    @property
    def lastModified(self) -> int:
        return self.last_modified

    @property
    def js_object(self) -> File:
        return self


def _parts(parts: Any) -> Iterable[Any]:
    if isinstance(parts, (str, Blob)) or as_bytes(parts) is not None or not isinstance(parts, Iterable):
        return (parts,)
    return parts


def _part_bytes(part: object, native: bool) -> bytes:
    if isinstance(part, str):
        return (part.replace("\r\n", "\n") if native else part).encode("utf-8", "surrogatepass")
    if isinstance(part, Blob):
        return part.data
    data = as_bytes(part)
    if data is None:
        raise TypeError(f"Don't know how to handle {type(part)} for Blob()")
    return data
