"""The one codec between processes: length-prefixed CBOR frames, descriptors beside them. `wire` sends them.

A frame is a five-byte head (length of the body, 4 bytes big-endian; number of descriptors, 1 byte) and a body: one
CBOR map or array that msgspec checks against a union of tagged structs. Descriptors travel by SCM_RIGHTS with the
first bytes of their frame. Whatever arrives is hostile: size, nesting, CBOR tags, duplicate keys, trailing bytes,
types and the number of descriptors are checked, and a violation raises WireError with every received descriptor closed.
"""

from __future__ import annotations

import array
import functools
import io
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Never, get_args

import cbor2
import msgspec

from edge_runtime.control import FromSupervisor, ToSupervisor
from edge_runtime.errors import WireError
from edge_runtime.limits import DESCRIPTORS_PER_FRAME_MAX, FRAME_DEPTH_MAX, FRAME_MAX

Message = msgspec.Struct
Received = tuple[Message, tuple[int, ...]]
"""A message and the descriptors that came with it; the receiver owns (and must close) the descriptors."""

ANY_CONTROL: Final = FromSupervisor | ToSupervisor
_HEAD: Final = struct.Struct(">IB")
_TRUNCATED: Final = int(socket.MSG_CTRUNC)  # a plain number: the enum's operators take microseconds


def _refuse_tag(*_: object) -> Never:
    raise ValueError("CBOR tags are not allowed in frames")


# Tags with a decoder built into cbor2 (dates, big numbers, regular expressions, references ...) are looked up here
# first, so each is named; the hook refuses all others.
_NO_TAGS: Final = dict.fromkeys((*range(64), 100, 256, 258, 260, 261, 1004, 43000, 55799), _refuse_tag)


@functools.cache
def _structs_by_tag(receives: Any) -> dict[str, type[Message]]:
    # msgspec can choose within a union itself, but analyses the union anew with each call, which takes 20 us.
    return {str(struct.__struct_config__.tag): struct for struct in get_args(receives) or (receives,)}


def encode_frame(message: Message, descriptors: int = 0, frame_max: int = FRAME_MAX) -> bytes:
    """The bytes of one frame. Raises WireError if its body is larger than `frame_max`."""
    body = cbor2.dumps(msgspec.to_builtins(message, builtin_types=(bytes,)))
    if len(body) > frame_max:
        raise WireError(f"a {type(message).__name__} frame of {len(body)} bytes was to be sent; allowed: {frame_max}")
    if descriptors > DESCRIPTORS_PER_FRAME_MAX:
        raise WireError(f"{descriptors} descriptors were to be sent; allowed: {DESCRIPTORS_PER_FRAME_MAX}")
    return _HEAD.pack(len(body), descriptors) + body


def decode_body(body: bytes, receives: Any = ANY_CONTROL) -> Message:
    """One message of the union `receives` from the whole of a frame's body; WireError for anything else."""
    stream = io.BytesIO(body)
    decoder = cbor2.CBORDecoder(
        stream,
        tag_hook=_refuse_tag,
        semantic_decoders=_NO_TAGS,
        max_depth=FRAME_DEPTH_MAX,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )
    try:
        value = decoder.decode()
    except (cbor2.CBORDecodeError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise WireError(f"a frame is not the CBOR expected here: {error}") from error
    if stream.tell() != len(body):
        raise WireError(f"a frame of {len(body)} bytes holds a value of {stream.tell()} bytes and something behind it")
    structs = _structs_by_tag(receives)
    kind = value[0] if isinstance(value, list) and value else value.get("type") if isinstance(value, dict) else None
    struct = structs.get(kind) if isinstance(kind, str) else None
    if struct is None:
        raise WireError(f"a frame is not a message expected here: its type is {str(kind)[:80]!r}")
    try:
        message: Message = msgspec.convert(value, struct)
    except (msgspec.ValidationError, TypeError) as error:
        raise WireError(f"a frame is not a message expected here: {error}") from error
    return message


class FrameReader:
    """Cuts a byte stream into frames and pairs them with their descriptors; does no reading itself."""

    def __init__(self, receives: Any = ANY_CONTROL, frame_max: int = FRAME_MAX) -> None:
        self._receives = receives
        self._frame_max = frame_max
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()

    def feed(self, data: bytes, ancillary: Sequence[tuple[int, int, bytes]], flags: int) -> None:
        """Take in what one `recvmsg` gave."""
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(raw[: len(raw) - len(raw) % numbers.itemsize])
                self._descriptors.extend(numbers)
        self._buffer += data
        if flags & _TRUNCATED:
            self._fail(f"more than {DESCRIPTORS_PER_FRAME_MAX} descriptors came at once")

    @property
    def has_frame(self) -> bool:
        """Whether `next_frame` gives one without further input."""
        buffer = self._buffer
        return len(buffer) >= _HEAD.size and len(buffer) >= _HEAD.size + _HEAD.unpack_from(buffer)[0]

    def next_frame(self) -> Received | None:
        """The next message, or None until more was fed. Raises WireError."""
        buffer = self._buffer
        if len(buffer) < _HEAD.size:
            self._check_waiting()
            return None
        length, count = _HEAD.unpack_from(buffer)
        if length > self._frame_max:
            self._fail(f"a frame announces {length} bytes; allowed: {self._frame_max}")
        end = _HEAD.size + length
        if len(buffer) < end:
            self._check_waiting()
            return None
        if count > len(self._descriptors):
            self._fail(f"a frame announces {count} descriptors, and {len(self._descriptors)} came")
        try:
            message = decode_body(bytes(buffer[_HEAD.size : end]), self._receives)
        except WireError:
            self.close()
            raise
        del buffer[:end]
        return message, tuple(self._descriptors.popleft() for _ in range(count))

    def _check_waiting(self) -> None:
        if self._descriptors and not self._buffer:
            self._fail(f"{len(self._descriptors)} descriptors came that no frame announced")
        if len(self._descriptors) > DESCRIPTORS_PER_FRAME_MAX:
            self._fail(f"{len(self._descriptors)} descriptors came for one frame")

    def _fail(self, reason: str) -> Never:
        self.close()
        raise WireError(reason)

    def close(self) -> None:
        """Forget what is buffered and close the descriptors nobody took."""
        self._buffer.clear()
        while self._descriptors:
            os.close(self._descriptors.popleft())
