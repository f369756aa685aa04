"""The tally: what was charged and is not in the ledger yet, in memory that outlives the process if it is a file's.

Charges are added up in the open one of a row of numbered portions. To write it, it is taken, and the next one is open;
once it is durable its memory is used again. Who reads the memory of a process that was killed finds whole rows: a row
is complete before its segment says that it has one more, and its counters are changed in place, each by itself.

Memory comes in segments. All numbers are 8 bytes of floating point, so counts are exact up to 2**53:

    segment:  number of its portion (0: none), bytes in use with these three, when the portion was begun (ms since the
              epoch), rows
    row:      bytes of the row, bytes of its name, counters in the order of `COLUMNS`, name (JSON), padding
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from edge_runtime.metering.quantities import QUANTITIES

SEGMENT_BYTES: Final = 64 * 1024
_NUMBER: Final = 0
_USED: Final = 1
_BEGUN: Final = 2
SEGMENT_HEAD_BYTES: Final = 24
_ROW_HEAD: Final = 16
COLUMNS: Final = ("events", "cpu_s", "wall_s", *QUANTITIES)
_PLACES: Final[Mapping[str, int]] = {name: place for place, name in enumerate(COLUMNS)}
_COUNTERS_BYTES: Final = 8 * len(COLUMNS)
_ZEROS: Final = memoryview(bytes(_COUNTERS_BYTES)).cast("d")
_SPARE_SEGMENTS: Final = 2
NO_QUANTITIES: Final[Mapping[str, int]] = {}


Charge = tuple[str, str, str, str]
"""What is charged: a handler's events that ended alike. Product, kind, name, outcome."""


class Owner(NamedTuple):
    """Whose a tally is."""

    worker: str
    version: str
    isolate: str
    """As no other one is ever named."""
    since_ms: int
    """When that began (ms since the epoch)."""


class Segments(Protocol):
    """Where a tally's memory comes from."""

    def new(self, size: int) -> memoryview[int]:
        """That many bytes; the first SEGMENT_HEAD_BYTES are zeros."""

    def give_back(self, segment: memoryview[int]) -> None:
        """It is not used any more."""


class PrivateSegments:
    """Memory that ends with the process."""

    def new(self, size: int) -> memoryview[int]:
        return memoryview(bytearray(size))

    def give_back(self, segment: memoryview[int]) -> None:
        pass


class Portion:
    """What was charged between two times of writing it."""

    __slots__ = ("begun_ms", "number", "rows", "segments")

    def __init__(self, number: int, begun_ms: int) -> None:
        self.number = number
        self.begun_ms = begun_ms
        self.rows: dict[Charge, memoryview[float]] = {}
        self.segments: list[memoryview[int]] = []

    def counted(self) -> Iterator[tuple[Charge, dict[str, float]]]:
        """Its rows; counters that are zero are left out."""
        for charge, row in self.rows.items():
            yield charge, _counters(row)


class Tally:
    def __init__(self, segments: Segments, now_ms: int) -> None:
        self._memory = segments
        self._spare: list[memoryview[int]] = []
        self._open = Portion(1, now_ms)

    @property
    def empty(self) -> bool:
        """Nothing was charged since the last portion was taken."""
        return not self._open.rows

    def charge(
        self, charge: Charge, events: int, cpu_s: float, wall_s: float, quantities: Mapping[str, int] = NO_QUANTITIES
    ) -> None:
        """Add to the row of `charge`; amounts may be negative."""
        row = self._open.rows.get(charge)
        if row is None:
            row = self._add_row(charge)
        row[0] += events
        row[1] += cpu_s
        row[2] += wall_s
        if quantities:
            for name, amount in quantities.items():
                row[_PLACES[name]] += amount

    def take(self, now_ms: int) -> Portion:
        """Close the open portion and begin the next. `free` it when it is durable."""
        portion = self._open
        self._open = Portion(portion.number + 1, now_ms)
        return portion

    def free(self, portion: Portion) -> None:
        portion.rows.clear()
        for segment in portion.segments:
            segment.cast("d")[_NUMBER] = 0.0
            if len(segment) == SEGMENT_BYTES and len(self._spare) < _SPARE_SEGMENTS:
                self._spare.append(segment)
            else:
                self._memory.give_back(segment)
        portion.segments.clear()

    def _add_row(self, charge: Charge) -> memoryview[float]:
        name = json.dumps(charge).encode()
        size = _ROW_HEAD + _COUNTERS_BYTES + (len(name) + 7) // 8 * 8
        segment = self._segment_with(size)
        head = segment[:SEGMENT_HEAD_BYTES].cast("d")
        begin = int(head[_USED])
        counters = begin + _ROW_HEAD
        after = counters + _COUNTERS_BYTES
        segment[after : after + len(name)] = name
        struct.pack_into("=2d", segment, begin, size, len(name))
        row = segment[counters:after].cast("d")
        row[:] = _ZEROS
        head[_USED] = begin + size
        self._open.rows[charge] = row
        return row

    def _segment_with(self, room: int) -> memoryview[int]:
        """The open portion's last segment if it has that much room, else a new one."""
        segments = self._open.segments
        if segments and int(segments[-1].cast("d")[_USED]) + room <= len(segments[-1]):
            return segments[-1]
        if self._spare and room <= SEGMENT_BYTES - SEGMENT_HEAD_BYTES:
            segment = self._spare.pop()
        else:
            segment = self._memory.new(max(SEGMENT_BYTES, SEGMENT_HEAD_BYTES + room))
        head = segment[:SEGMENT_HEAD_BYTES].cast("d")
        head[_USED] = SEGMENT_HEAD_BYTES
        head[_BEGUN] = self._open.begun_ms
        head[_NUMBER] = self._open.number
        segments.append(segment)
        return segment


@dataclass(frozen=True, slots=True)
class LeftRows:
    """What a segment of a dead process says."""

    portion: int
    """Number; 0: the segment is not in use."""
    begun_ms: int
    rows: list[tuple[Charge, dict[str, float]]]


def read_segment(segment: memoryview[int]) -> LeftRows:
    """Raises ValueError for what is no segment."""
    try:
        number, used, begun_ms = map(int, struct.unpack_from("=3d", segment))
        rows = []
        at = SEGMENT_HEAD_BYTES
        while number and at < used:
            size, name_bytes = map(int, struct.unpack_from("=2d", segment, at))
            after = at + _ROW_HEAD + _COUNTERS_BYTES
            product, kind, name, outcome = json.loads(bytes(segment[after : after + name_bytes]))
            if size <= _ROW_HEAD or not all(type(part) is str for part in (product, kind, name, outcome)):
                raise ValueError(f"row of {size} bytes at {at}")
            rows.append(((product, kind, name, outcome), _counters(segment[at + _ROW_HEAD : after].cast("d"))))
            at += size
    except (struct.error, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"no segment of a tally: {error}") from None
    return LeftRows(number, begun_ms, rows)


def _counters(row: memoryview[float]) -> dict[str, float]:
    return {name: amount for name, amount in zip(COLUMNS, row.tolist(), strict=True) if amount}
