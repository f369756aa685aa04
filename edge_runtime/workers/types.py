"""Names for annotations that scripts import."""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPMethod
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypedDict, Union

from edge_runtime.workers.headers import HeadersInit

if TYPE_CHECKING:
    from edge_runtime.workers.blob import Blob
    from edge_runtime.workers.buffers import ArrayBuffer, TypedArray
    from edge_runtime.workers.formdata import FormData
    from edge_runtime.workers.streams import ReadableStream
    from edge_runtime.workers.url import URLSearchParams

Headers: TypeAlias = HeadersInit
JSBody: TypeAlias = Union["Blob", "ArrayBuffer", "TypedArray", "FormData", "ReadableStream", "URLSearchParams"]
Body: TypeAlias = Union[str, bytes, "FormData", "JSBody", None]


class Context(Protocol):
    def waitUntil(self, other: Awaitable[Any]) -> None: ...


class RequestInitCfProperties(TypedDict, total=False):
    """Options for Cloudflare's edge; accepted by `fetch` and without effect here."""

    apps: bool | None
    cacheEverything: bool | None
    cacheKey: str | None
    cacheTags: list[str] | None
    cacheTtl: int
    cacheTtlByStatus: dict[str, int]
    image: Any
    mirage: bool | None
    polish: str | None
    resolveOverride: str | None
    scrapeShield: bool | None
    webp: bool | None


class FetchKwargs(TypedDict, total=False):
    """Options of `fetch` and of `Request`."""

    headers: Headers | None
    body: Body
    method: HTTPMethod | str | None
    redirect: str | None
    cf: RequestInitCfProperties | None
    fetcher: Any
    signal: Any
