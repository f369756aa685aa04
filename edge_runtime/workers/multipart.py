"""Bodies of forms: multipart/form-data (RFC 7578) and application/x-www-form-urlencoded, both ways."""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import parse_qsl

from edge_runtime.errors import LimitExceeded
from edge_runtime.limits import FORM_PART_HEADERS_MAX, FORM_PARTS_MAX
from edge_runtime.workers.blob import Blob, File
from edge_runtime.workers.formdata import FormDataValue

_PARAMETER = re.compile(r';\s*([\w!#$&+\-.^`|~]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')


def encode_multipart(entries: Sequence[tuple[str, FormDataValue]]) -> tuple[bytes, str]:
    """The body and its content type. The boundary is derived from the content, so equal forms give equal bodies."""
    parts: list[tuple[bytes, bytes]] = []
    for name, value in entries:
        head = f'Content-Disposition: form-data; name="{_quoted(name)}"'
        if isinstance(value, Blob):
            filename = value.name if isinstance(value, File) else "blob"
            content_type = _one_line(value.content_type) or "application/octet-stream"
            head += f'; filename="{_quoted(filename)}"\r\nContent-Type: {content_type}'
            data = value.data
        else:
            data = value.encode("utf-8", "surrogatepass")
        parts.append((head.encode("utf-8", "surrogatepass"), data))
    digest = sha256()
    for head_bytes, data in parts:
        digest.update(head_bytes)
        digest.update(data)
    boundary = b"----edge-form-" + digest.hexdigest()[:32].encode()
    while any(boundary in data for _, data in parts):
        digest.update(boundary)
        boundary = b"----edge-form-" + digest.hexdigest()[:32].encode()
    pieces: list[bytes] = []
    for head_bytes, data in parts:
        pieces += (b"--", boundary, b"\r\n", head_bytes, b"\r\n\r\n", data, b"\r\n")
    pieces += (b"--", boundary, b"--\r\n")
    return b"".join(pieces), f"multipart/form-data; boundary={boundary.decode()}"


def decode_form(data: bytes, content_type: str) -> list[tuple[str, FormDataValue]]:
    """The fields of a form body.

    Raises:
        TypeError: the content type is not one of a form, or the body is broken.
        LimitExceeded: FORM_PARTS_MAX, FORM_PART_HEADERS_MAX.
    """
    kind, parameters = parse_content_type(content_type)
    if kind == "application/x-www-form-urlencoded":
        try:
            pairs = parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FORM_PARTS_MAX)
        except ValueError:
            raise LimitExceeded("fields of one form", data.count(b"&") + 1, FORM_PARTS_MAX, "fields") from None
        return list(pairs)
    if kind == "multipart/form-data":
        boundary = parameters.get("boundary", "")
        if not boundary:
            raise TypeError("No boundary string in Content-Type header.")
        return _decode_multipart(data, boundary.encode("latin-1", "replace"))
    raise TypeError(
        f"Unrecognized Content-Type header value. FormData can only parse the following MIME types: "
        f"multipart/form-data, application/x-www-form-urlencoded; found {content_type or 'none'!r}"
    )


def parse_content_type(value: str) -> tuple[str, dict[str, str]]:
    """The lower-case media type and its parameters by lower-case name, quotes removed."""
    kind, _, _ = value.partition(";")
    return kind.strip().lower(), _parameters(value)


def _parameters(value: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in _PARAMETER.findall(value):
        quoted = text.startswith('"')
        found.setdefault(name.lower(), re.sub(r'\\(["\\])', r"\1", text[1:-1]) if quoted else text.strip())
    return found


def _decode_multipart(data: bytes, boundary: bytes) -> list[tuple[str, FormDataValue]]:
    delimiter = b"\r\n--" + boundary
    opening = delimiter[2:]
    position = 0 if data.startswith(opening) else data.find(delimiter)
    if position < 0:
        raise TypeError("No initial boundary string (or you have a truncated message).")
    position += len(opening) if data.startswith(opening) else len(delimiter)
    entries: list[tuple[str, FormDataValue]] = []
    while not data.startswith(b"--", position):
        line_end = data.find(b"\r\n", position, position + FORM_PART_HEADERS_MAX)
        if line_end < 0 or data[position:line_end].strip(b" \t"):
            raise TypeError("No CRLF after boundary string of a form part.")
        # A part without headers has its blank line directly behind the boundary's.
        head_end = data.find(b"\r\n\r\n", line_end)
        part_end = data.find(delimiter, line_end)
        if part_end < 0:
            raise TypeError("No final boundary string (or you have a truncated message).")
        if head_end < 0 or head_end > part_end:
            raise TypeError("A form part has no blank line after its headers.")
        if head_end - line_end > FORM_PART_HEADERS_MAX:
            raise LimitExceeded("head of a form part", head_end - line_end, FORM_PART_HEADERS_MAX, "bytes")
        if len(entries) == FORM_PARTS_MAX:
            raise LimitExceeded("fields of one form", len(entries) + 1, FORM_PARTS_MAX, "fields")
        entries.append(_part(data[line_end + 2 : head_end], data[head_end + 4 : part_end]))
        position = part_end + len(delimiter)
    return entries


def _part(head: bytes, data: bytes) -> tuple[str, FormDataValue]:
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    disposition = headers.get("content-disposition", "")
    parameters = _parameters(disposition)
    if disposition.partition(";")[0].strip().lower() != "form-data" or "name" not in parameters:
        raise TypeError("No valid Content-Disposition header with a name in a form part.")
    name = _unquoted(parameters["name"])
    filename = parameters.get("filename")
    if filename is None:
        return name, data.decode("utf-8", "replace")
    return name, File([data], _unquoted(filename), headers.get("content-type", "application/octet-stream"))


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _unquoted(text: str) -> str:
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
