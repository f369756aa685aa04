"""The log's lines, one an event, and the message in which an isolate sends them to its supervisor (`control`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edge_runtime.errors import WireError


class LogLine(msgspec.Struct, frozen=True, array_like=True):
    """One event, for the log."""

    at_ms: int
    kind: str
    name: str
    detail: str
    outcome: str
    cpu_us: int
    wall_ms: float
    error: str
    """A traceback or message for the script's author; "" when all went well."""


class Log(msgspec.Struct, tag="log", frozen=True):
    """Log lines, packed into one value: an event costs 1 us here, and 7 if each field is a value of the frame."""

    packed: bytes

    @classmethod
    def of(cls, lines: Sequence[LogLine]) -> Log:
        """Lone surrogates, which scripts can raise errors with, are replaced."""
        try:
            return cls(_pack_lines.encode(lines))
        except UnicodeEncodeError:
            return cls(_pack_lines.encode([_encodable(line) for line in lines]))

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """Raises WireError for what `of` has not made."""
        try:
            return _unpack_lines.decode(self.packed)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WireError(f"log lines cannot be read: {error}") from error


_pack_lines: Final = msgspec.msgpack.Encoder()
_unpack_lines: Final = msgspec.msgpack.Decoder(tuple[LogLine, ...])


def _encodable(line: LogLine) -> LogLine:
    texts = {
        field: value.encode("utf-8", "replace").decode()
        for field in LogLine.__struct_fields__
        if isinstance(value := getattr(line, field), str)
    }
    return msgspec.structs.replace(line, **texts)
