"""Unpacking a response's body as an archive."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

_FORMATS = {
    "application/zip": "zip",
    "application/x-zip-compressed": "zip",
    "application/x-tar": "tar",
    "application/gzip": "gztar",
    "application/x-gzip": "gztar",
    "application/x-bzip2": "bztar",
    "application/x-xz": "xztar",
}
_SUFFIXES = {
    ".zip": "zip",
    ".whl": "zip",
    ".tar": "tar",
    ".gz": "gztar",
    ".tgz": "gztar",
    ".bz2": "bztar",
    ".xz": "xztar",
}


def unpack(data: bytes, url: str, content_type: str, extract_dir: str | None, format: str | None) -> None:
    """Unpack into `extract_dir`, by default the working directory. ValueError if the format cannot be told."""
    chosen = format or _SUFFIXES.get(Path(urlsplit(url).path).suffix) or _FORMATS.get(content_type.partition(";")[0])
    if chosen == "wheel":
        chosen = "zip"
    if chosen is None:
        raise ValueError(f'cannot tell the archive format of {url or "the response"}: give format="zip" or another')
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        if chosen == "zip":
            shutil.unpack_archive(file.name, extract_dir, chosen)
        else:
            shutil.unpack_archive(file.name, extract_dir, chosen, filter="data")
