"""List cursors: opaque texts that say after which key the next page begins. Pure.

A cursor holds the last key looked at, so pages neither repeat nor skip keys that exist throughout, whatever is written
in between. It is bound to its namespace and prefix, and carries a checksum, so that anything but a cursor that `list`
gave for the same question is refused.
"""

from __future__ import annotations

import base64
import binascii
import zlib

from edge_runtime.limits import KV_KEY_MAX

_CHECK_BYTES = 4
_TEXT_MAX = 4 * (KV_KEY_MAX + _CHECK_BYTES)


class BadCursor(ValueError):
    """The text is not a cursor of this namespace and prefix."""


def encode_cursor(namespace: str, prefix: str, last_key: str) -> str:
    raw = last_key.encode()
    return base64.urlsafe_b64encode(_check(namespace, prefix, raw) + raw).rstrip(b"=").decode()


def decode_cursor(namespace: str, prefix: str, text: str) -> str:
    """The key after which to continue. Raises BadCursor."""
    if len(text) > _TEXT_MAX or not text.isascii():
        raise BadCursor
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        check, raw = data[:_CHECK_BYTES], data[_CHECK_BYTES:]
        last_key = raw.decode()
    except (binascii.Error, UnicodeDecodeError):
        raise BadCursor from None
    if check != _check(namespace, prefix, raw) or not last_key.startswith(prefix):
        raise BadCursor
    return last_key


def _check(namespace: str, prefix: str, raw: bytes) -> bytes:
    bound = b"\0".join((namespace.encode(), prefix.encode(), raw))
    return zlib.crc32(bound).to_bytes(_CHECK_BYTES, "big")
