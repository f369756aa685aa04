"""Content types by file extension: a fixed table, so that they do not differ from machine to machine.

Cloudflare takes them from the IANA registry; text types get a charset. Unknown extensions have no content type.
"""

from __future__ import annotations

from typing import Final

_TABLE: Final = """
application/atom+xml atom
application/epub+zip epub
application/gzip gz
application/java-archive jar
application/json json map
application/json5 json5
application/ld+json jsonld
application/manifest+json webmanifest
application/msword doc
application/octet-stream bin
application/pdf pdf
application/rss+xml rss
application/rtf rtf
application/toml toml
application/vnd.android.package-archive apk
application/vnd.ms-excel xls
application/vnd.ms-fontobject eot
application/vnd.ms-powerpoint ppt
application/vnd.openxmlformats-officedocument.presentationml.presentation pptx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet xlsx
application/vnd.openxmlformats-officedocument.wordprocessingml.document docx
application/wasm wasm
application/x-7z-compressed 7z
application/x-bzip2 bz2
application/x-tar tar
application/xhtml+xml xhtml xht
application/zip zip
audio/aac aac
audio/flac flac
audio/midi mid midi
audio/mp4 m4a
audio/mpeg mp3
audio/ogg oga ogg opus
audio/wav wav
audio/webm weba
font/collection ttc
font/otf otf
font/ttf ttf
font/woff woff
font/woff2 woff2
image/apng apng
image/avif avif
image/bmp bmp
image/gif gif
image/heic heic
image/heif heif
image/jpeg jpg jpeg jpe
image/jxl jxl
image/png png
image/svg+xml svg svgz
image/tiff tif tiff
image/vnd.microsoft.icon ico
image/webp webp
model/gltf+json gltf
model/gltf-binary glb
model/obj obj
model/stl stl
text/cache-manifest appcache manifest
text/calendar ics
text/css css
text/csv csv
text/html html htm shtml
text/javascript js mjs
text/jsx jsx
text/markdown md markdown
text/mathml mml
text/plain txt text conf log ini
text/tab-separated-values tsv
text/vcard vcard
text/vtt vtt
text/x-python py
text/xml xml
text/yaml yaml yml
video/mp2t ts
video/mp4 mp4 m4v
video/mpeg mpeg mpg
video/ogg ogv
video/quicktime mov
video/webm webm
video/x-matroska mkv
"""

_TYPES: Final = {
    extension: f"{kind}; charset=utf-8".encode() if kind.startswith("text/") else kind.encode()
    for kind, *extensions in (line.split() for line in _TABLE.strip().splitlines())
    for extension in extensions
}


def content_type(path: str) -> bytes | None:
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    return _TYPES.get(extension.lower()) if dot and stem else None
