"""The value codec: Python values as MessagePack or CBOR, of an allow-list of types, with a version and a checksum.

Accepted: None, bool, int of any size, float, str, bytes, list, dict, set, datetime (aware or naive), date, UUID,
Decimal, ErrorRecord. Written as one of these: tuple and list subclasses (list), dict subclasses (dict), frozenset
(set), bytearray, memoryview and array (bytes), subclasses of the scalars, exceptions (ErrorRecord). A tuple stays one
where it must be hashable: as a dict key and in a set. The name of a time zone is reduced to its offset.

Layout: one byte version, four bytes CRC-32 of the rest big-endian, then with version 4 one MessagePack object, with
version 1 one CBOR item. MessagePack, which takes a fifth of the time, is written for what JSON and bytes are made of:
None, bool, int of 64 bits, float, str, bytes, list and dict with keys of str; CBOR for everything else. CBOR tags of
ours: 60001 datetime in ISO 8601 for what tag 0 cannot hold, 60002 error record as [name, message, traceback], 60003
Decimal as text for what tag 4 cannot hold, 60004 text with lone surrogates.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from typing import Any, Final, NoReturn
from uuid import UUID
from zlib import crc32

import cbor2
import msgspec

from edge_runtime.errors import StoreCorrupt
from edge_runtime.limits import VALUE_DEPTH_MAX
from edge_runtime.tracebacks import script_traceback


@dataclass(frozen=True, slots=True)
class ErrorRecord:
    """What is stored of an exception: the name of its class, its text, and the formatted traceback or ""."""

    name: str
    message: str
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException, *, with_traceback: bool = False) -> ErrorRecord:
        trace = script_traceback(error) if with_traceback else ""
        return cls(type(error).__name__, str(error), trace)


_VERSION: Final = b"\x01"
_COMMON_VERSION: Final = b"\x04"  # two bits away from the other: the checksum does not cover the version
_HEADER: Final = 5

_DATETIME: Final = 60001
_ERROR: Final = 60002
_DECIMAL: Final = 60003
_SURROGATES: Final = 60004

_COMMON: Final = frozenset({type(None), bool, int, float, str, bytes})
_SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes, date, UUID})
_LISTED: Final = _SCALARS | {datetime, Decimal, ErrorRecord}
_COLLECTIONS: Final = frozenset({list, tuple, set, frozenset})
_BASES: Final[tuple[type[Any], ...]] = (str, int, float, bytes)

# Tags that cbor2 knows and we never write: times as numbers, references, rationals, regular expressions, addresses...
_REFUSED_TAGS: Final = (1, 5, 25, 28, 29, 30, 35, 36, 52, 54, 100, 256, 260, 261, 43000, 55799)

# A decoder ignores what follows the first item. So two items are decoded, and the second must be this one.
_PAIR: Final = b"\x82"
_MARK: Final = b"end of value"
_END: Final = cbor2.dumps(_MARK)

_FRACTION_OFFSET: Final = re.compile(r"([+-])00:00:00\.(\d{6})$")

# First bytes of items that decode to types not on the allow-list: simple values and `undefined`.
_SIMPLE: Final = bytes((*range(0xE0, 0xF4), 0xF7, 0xF8))


def encode(value: Any) -> bytes:
    """The stored form of a value.

    Raises TypeError naming the type and the place ("at ['a'][3]") of what is not on the allow-list, ValueError for
    nesting beyond VALUE_DEPTH_MAX, cycles included.
    """
    if type(value) in _COMMON or _is_common(value, VALUE_DEPTH_MAX):
        try:
            body = _encode_common(value)
        except (OverflowError, UnicodeEncodeError):
            pass  # an int that is too large, a lone surrogate
        else:
            return _COMMON_VERSION + crc32(body).to_bytes(4, "big") + body
    # cbor2 recurses without bound in native code, so the depth is known before it sees the value.
    if not _is_plain(value, VALUE_DEPTH_MAX):
        value = _convert(value, ())
    try:
        body = cbor2.dumps(value)
    except UnicodeEncodeError:
        body = cbor2.dumps(_convert(value, ()))
    return _VERSION + crc32(body).to_bytes(4, "big") + body


def decode(data: bytes) -> Any:
    """The value that `encode` made `data` from. Raises StoreCorrupt, and nothing else, for any other bytes."""
    body = data[_HEADER:]
    version = data[:1]
    if version != _COMMON_VERSION and version != _VERSION:
        raise StoreCorrupt(f"a value of {len(data)} bytes has format {version.hex() or 'none'}, known are 01 and 04")
    if crc32(body) != int.from_bytes(data[1:_HEADER], "big"):
        raise StoreCorrupt(f"a value of {len(data)} bytes does not match its checksum")
    if version == _COMMON_VERSION:
        try:
            return _decode_common(body)
        except Exception as error:
            raise StoreCorrupt(f"a value of {len(data)} bytes cannot be decoded: {error}") from error
    return _decode_body(body)


def _refuse_extension(code: int, data: memoryview) -> NoReturn:
    raise StoreCorrupt(f"a value holds the MessagePack extension {code}, which values are not written with")


_encode_common: Final = msgspec.msgpack.Encoder().encode
_decode_common: Final = msgspec.msgpack.Decoder(ext_hook=_refuse_extension).decode


def _decode_body(body: bytes) -> Any:
    try:
        if _END in body:
            value = _decode_alone(body)
        else:
            value, mark = cbor2.loads(
                _PAIR + body + _END,
                tag_hook=_decode_tag,
                semantic_decoders=_SEMANTIC,
                max_depth=2 * VALUE_DEPTH_MAX + 2,
                allow_indefinite=False,
                allow_duplicate_keys=False,
            )
            if mark != _MARK:
                raise StoreCorrupt("bytes follow the end of a value")
        # Looking for these bytes by `translate` takes a fifth of what a regular expression takes.
        if len(body.translate(None, _SIMPLE)) != len(body):
            _require_listed(value)
    except StoreCorrupt:
        raise
    except Exception as error:
        # Decoders of tags raise whatever their types raise; all of it means that these are not our bytes.
        raise StoreCorrupt(f"a value of {len(body) + _HEADER} bytes cannot be decoded: {error}") from error
    return value


def _decode_alone(body: bytes) -> Any:
    """Decode slowly, for a body that itself holds the bytes of the end mark."""
    stream = BytesIO(body)
    decoder = cbor2.CBORDecoder(
        stream,
        tag_hook=_decode_tag,
        semantic_decoders=_SEMANTIC,
        max_depth=2 * VALUE_DEPTH_MAX + 1,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        read_size=1,
    )
    value = decoder.decode()
    if stream.tell() != len(body):
        raise StoreCorrupt("bytes follow the end of a value")
    return value


def _is_common(value: Any, depth: int) -> bool:
    """Whether the value, a list or dict at most, is made of what MessagePack is written for, within the depth."""
    if depth <= 0:
        return False
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or (type(item) not in _COMMON and not _is_common(item, depth - 1)):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(item) in _COMMON or _is_common(item, depth - 1) for item in value)
    return False


def _is_plain(value: Any, depth: int) -> bool:
    """Whether cbor2 writes the value as the layout says without help, within the depth."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if isinstance(value, dict):
        if depth <= 0:
            return False
        for key, item in value.items():
            if type(key) not in _SCALARS or (type(item) not in _SCALARS and not _is_plain(item, depth - 1)):
                return False
        return True
    if kind is list or kind is tuple:
        if depth <= 0:
            return False
        return all(type(item) in _SCALARS or _is_plain(item, depth - 1) for item in value)
    if kind is set:
        return depth > 0 and all(type(item) in _SCALARS for item in value)
    if kind is datetime:
        return _fits_tag_0(value)
    return kind is bytearray or (kind is Decimal and _fits_tag_4(value))


def _fits_tag_0(moment: datetime) -> bool:
    offset = moment.utcoffset()
    return offset is not None and not offset.seconds % 60 and not offset.microseconds


def _fits_tag_4(number: Decimal) -> bool:
    # Tag 4 holds an integer and an exponent: no infinity, and no minus before a zero.
    return number.is_finite() and (bool(number) or not number.is_signed())


def _convert(value: Any, path: tuple[object, ...], *, hashable: bool = False) -> Any:
    """A copy that cbor2 writes as the layout says."""
    if len(path) > VALUE_DEPTH_MAX:
        raise ValueError(f"a value is nested deeper than {VALUE_DEPTH_MAX} levels, or contains itself")
    if isinstance(value, str):
        return _convert_str(value)
    if type(value) in _SCALARS:
        return value
    for base in _BASES:
        if isinstance(value, base):
            return base.__new__(base, value)
    if isinstance(value, datetime):
        return value if _fits_tag_0(value) else cbor2.CBORTag(_DATETIME, value.isoformat())
    if isinstance(value, Decimal):
        return value if _fits_tag_4(value) else cbor2.CBORTag(_DECIMAL, str(value))
    if isinstance(value, (date, UUID)):
        return value
    if isinstance(value, BaseException):
        value = ErrorRecord.of(value)
    if isinstance(value, ErrorRecord):
        texts = (value.name, value.message, value.traceback)
        return cbor2.CBORTag(_ERROR, tuple(_convert_str(text) for text in texts))
    if isinstance(value, dict):
        return {
            _convert(key, (*path, key), hashable=True): _convert(item, (*path, key), hashable=hashable)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        items = (_convert(item, (*path, index), hashable=hashable) for index, item in enumerate(value))
        return tuple(items) if hashable else list(items)
    if isinstance(value, (set, frozenset)):
        return frozenset(_convert(item, (*path, item), hashable=True) for item in value)
    if isinstance(value, (bytearray, memoryview, array)):
        return bytes(value)
    _refuse(value, path)


def _convert_str(text: str) -> str | cbor2.CBORTag:
    plain = str.__str__(text) if type(text) is not str else text
    try:
        plain.encode()
    except UnicodeEncodeError:
        return cbor2.CBORTag(_SURROGATES, plain.encode("utf-8", "surrogatepass"))
    return plain


def _refuse(value: object, path: tuple[object, ...]) -> NoReturn:
    place = " at " + "".join(f"[{part!r}]" for part in path) if path else ""
    raise TypeError(
        f"a value of type {type(value).__qualname__}{place} cannot be stored; allowed are None, bool, int, float, str, "
        "bytes, list, dict, set, datetime, date, UUID, Decimal and exceptions"
    )


def _decode_tag(tag: cbor2.CBORTag, immutable: bool) -> Any:
    number, content = tag.tag, tag.value
    if number == _DATETIME:
        return _decode_datetime(content)
    if number == _ERROR:
        name, message, trace = content
        if not (isinstance(name, str) and isinstance(message, str) and isinstance(trace, str)):
            raise StoreCorrupt("an error record is not made of three texts")
        return ErrorRecord(name, message, trace)
    if number == _DECIMAL:
        return Decimal(_text(content))
    if number == _SURROGATES:
        return content.decode("utf-8", "surrogatepass")
    raise StoreCorrupt(f"CBOR tag {number} is not one that values are written with")


def _decode_datetime(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    # It takes an offset of less than a second for none at all.
    if moment.tzinfo is UTC and (found := _FRACTION_OFFSET.search(text)):
        sign, digits = found.groups()
        moment = moment.replace(tzinfo=timezone(timedelta(microseconds=int(sign + digits))))
    return moment


def _text(content: object) -> str:
    if not isinstance(content, str):
        raise StoreCorrupt(f"a number is stored as {type(content).__name__}")
    return content


def _refused_tag(value: Any, immutable: bool) -> NoReturn:
    raise StoreCorrupt("a value holds a CBOR tag that values are not written with")


_SEMANTIC: Final[dict[int, Any]] = dict.fromkeys(_REFUSED_TAGS, _refused_tag)


def _require_listed(value: Any) -> None:
    kind = type(value)
    if kind in _LISTED:
        return
    if kind is dict or kind is cbor2.frozendict:
        for key, item in value.items():
            if type(key) not in _LISTED:
                _require_listed(key)
            if type(item) not in _LISTED:
                _require_listed(item)
    elif kind in _COLLECTIONS:
        for item in value:
            if type(item) not in _LISTED:
                _require_listed(item)
    else:
        raise StoreCorrupt(f"a value holds {kind.__name__}, which values are not written with")
