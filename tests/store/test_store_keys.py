"""Keys order as their tuples do, and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import StoreCorrupt
from edge_runtime.store import keys

PARTS = st.one_of(
    st.text(max_size=6),
    st.text(alphabet="\x00\x01a\xff", max_size=4),
    st.binary(max_size=4),
    st.binary(max_size=4).map(lambda raw: raw.replace(b"a", b"\x00\xff")),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
)
TUPLES = st.lists(PARTS, max_size=4).map(tuple)


def rank(parts: tuple[keys.Part, ...]) -> list[tuple[int, object]]:
    def of(part: keys.Part) -> tuple[int, object]:
        if isinstance(part, bytes):
            return 1, part
        return (2, part.encode()) if isinstance(part, str) else (3, part)

    return [of(part) for part in parts]


@given(TUPLES, TUPLES)
def test_encodings_order_as_their_tuples(left: tuple[keys.Part, ...], right: tuple[keys.Part, ...]) -> None:
    assert (keys.encode(*left) < keys.encode(*right)) == (rank(left) < rank(right))
    assert (keys.encode(*left) == keys.encode(*right)) == (rank(left) == rank(right))


@given(TUPLES)
def test_a_key_reads_back(parts: tuple[keys.Part, ...]) -> None:
    assert keys.decode(keys.encode(*parts)) == parts


@given(TUPLES, TUPLES)
def test_prefix_range_holds_the_extensions_and_nothing_else(
    prefix: tuple[keys.Part, ...], other: tuple[keys.Part, ...]
) -> None:
    start, end = keys.prefix_range(*prefix)
    assert start <= keys.encode(*prefix, *other) < end
    assert (start <= keys.encode(*other) < end) == (rank(other)[: len(prefix)] == rank(prefix))


@given(TUPLES, st.one_of(st.text(max_size=3), st.binary(max_size=3)), TUPLES)
def test_partial_prefix_range_holds_what_begins_with_it(
    prefix: tuple[keys.Part, ...], partial: str | bytes, other: tuple[keys.Part, ...]
) -> None:
    start, end = keys.prefix_range(*prefix, partial=partial)
    for probe in (other, (*prefix, *other), (*prefix, partial, *other)):
        begins = len(probe) > len(prefix) and rank(probe)[: len(prefix)] == rank(prefix)
        if begins:
            last = probe[len(prefix)]
            begins = type(last) is type(partial) and last.startswith(partial)
        assert (start <= keys.encode(*probe) < end) == begins


@given(st.binary(max_size=12))
def test_decode_of_other_bytes_is_corruption(raw: bytes) -> None:
    try:
        parts = keys.decode(raw)
    except StoreCorrupt:
        return
    assert keys.encode(*parts) == raw


def test_after_excludes_the_key_and_nothing_else() -> None:
    key = keys.encode("a", "b")
    assert key < keys.after(key) <= keys.encode("a", "b", b"")


@pytest.mark.parametrize("part", [True, 1.0, None, ("a",)])
def test_other_types_are_refused(part: object) -> None:
    with pytest.raises(TypeError, match=type(part).__name__):
        keys.encode("w", part)  # type: ignore[arg-type]


@pytest.mark.parametrize("part", [2**63, -(2**63) - 1, "\ud800"])
def test_parts_without_a_place_in_the_order_are_refused(part: keys.Part) -> None:
    with pytest.raises(ValueError, match=r"64 bits|surrogates"):
        keys.encode(part)
