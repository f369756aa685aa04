"""Answering requests from a folder of assets: for `env.<binding>.fetch` and at the front door.

Source: workers-shared asset-worker and router-worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bindings.assets.content_types import content_type
from bindings.assets.files import Asset, AssetFolder, FilePieces, Known, Lookup
from bindings.assets.globs import WorkerFirst
from bindings.assets.html import HtmlHandling, NotFoundHandling, Redirect, resolve
from bindings.assets.paths import decode_path, encode_path, split_target, split_url
from bindings.assets.ranges import NotSatisfiable, matches_etag, requested_part
from bindings.assets.rules import Rules
from edge_runtime.event import current_event, require_event
from edge_runtime.promise import Promise
from edge_runtime.seams import Offload
from edge_runtime.workers.body import Payload
from edge_runtime.workers.headers import RawHeaders, header
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import Response
from edge_runtime.workers.streams import ReadableStream

_CACHE_CONTROL: Final = (b"cache-control", b"public, max-age=0, must-revalidate")
_ANY_ORIGIN: Final = "https://assets.local"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a worker's assets are served."""

    html_handling: HtmlHandling
    not_found_handling: NotFoundHandling
    worker_first: WorkerFirst | bool
    has_script: bool
    navigation_prefers_assets: bool
    """Whether a browser's navigation is answered by `not_found_handling` rather than by the script."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as far as assets look at it. `path` and `query` are still encoded."""

    method: str
    host: str
    path: str
    query: str
    headers: Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class _Unread:
    """A file that must be read before it can be answered, because its hash is not known."""

    asked: _Asked
    asset: Asset
    status: int


class AssetServer:
    """One worker's assets; also the object that `env.<binding>` is."""

    __slots__ = ("_folder", "_offload", "_rules", "_settings")

    def __init__(self, folder: AssetFolder, rules: Rules, settings: Settings, offload: Offload) -> None:
        self._folder = folder
        self._rules = rules
        self._settings = settings
        self._offload = offload

    def fetch(self, resource: Any, **options: Any) -> Promise[Response]:
        """The asset for a request, a URL (its origin does not matter) or a path; 404 if there is none.

        `options` as of `Request`. `run_worker_first` has no effect here. Billed: one subrequest.
        """
        event = current_event.get()
        if event is not None:
            if event.subrequests_max is not None and event.meter.subrequests >= event.subrequests_max:
                return Promise.rejected(OSError("Too many subrequests."))
            event.meter.count_subrequest()
        try:
            asked = _asked_by_script(resource, options)
        except (TypeError, ValueError) as error:
            return Promise.rejected(error)
        reply = self._reply(asked, self._settings.not_found_handling)
        if reply is None:
            reply = self._plain(asked, 404)
        if isinstance(reply, Response):
            return Promise.resolved(reply)
        return require_event("fetch of an asset").spawn(self._read, reply)

    async def answer(self, method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Response | None:
        """See `bindings.front_door`."""
        host, rest = split_url(target.decode("latin-1"))
        path, query = split_target(rest)
        settings = self._settings
        not_found = settings.not_found_handling
        optional = settings.has_script
        if settings.has_script:
            first = settings.worker_first
            decision = first.decide(path) if isinstance(first, WorkerFirst) else "worker" if first else None
            if decision == "worker":
                return None
            if decision == "assets":
                optional = False
            elif not (settings.navigation_prefers_assets and header(headers, b"sec-fetch-mode") == "navigate"):
                not_found = "none"
        asked = _Asked(method, host or (header(headers, b"host") or "").lower(), path, query, headers)
        reply = self._reply(asked, not_found)
        if reply is None:
            return None if optional else self._plain(asked, 404)
        return reply if isinstance(reply, Response) else await self._read(reply)

    def _reply(self, asked: _Asked, not_found: NotFoundHandling) -> Response | _Unread | None:
        """None: no asset and no rule fits."""
        path = asked.path
        rule = self._rules.redirect(path)
        if rule is not None and rule.status != 200:
            return self._plain(asked, rule.status, _location(rule.to, asked.query))
        if rule is not None:
            path = split_target(rule.to)[0]
        lookup = Lookup(self._folder)
        try:
            reply = self._look_up(asked, path, not_found, lookup)
        finally:
            lookup.close()
        return self._plain(asked, 404) if reply is None and rule is not None else reply

    def _look_up(
        self, asked: _Asked, path: str, not_found: NotFoundHandling, lookup: Lookup
    ) -> Response | _Unread | None:
        decoded = decode_path(path)
        if decoded is None:
            return None
        found = resolve(decoded, self._settings.html_handling, not_found, lookup.exists)
        if found is None:
            return None
        if asked.method not in ("GET", "HEAD"):
            return self._plain(asked, 405, (b"allow", b"GET, HEAD"))
        canonical = encode_path(found.to if isinstance(found, Redirect) else decoded)
        if canonical != path or isinstance(found, Redirect):
            return self._plain(asked, 307, (b"location", (canonical + asked.query).encode("latin-1", "replace")))
        asset = lookup.take(found.file)
        if asset.known is None:
            return _Unread(asked, asset, found.status)
        return self._respond(asked, asset, asset.known, found.status)

    async def _read(self, unread: _Unread) -> Response:
        known = await self._folder.learn(unread.asset, self._offload)
        return self._respond(unread.asked, unread.asset, known, unread.status)

    def _respond(self, asked: _Asked, asset: Asset, known: Known, status: int) -> Response:
        """The response with the file, which is closed unless the response streams it."""
        size = known.stamp.size
        part = None
        raw: RawHeaders = [(b"etag", known.etag.encode())]
        if (kind := content_type(asset.name)) is not None:
            raw.append((b"content-type", kind))
        range_header = header(asked.headers, b"range")
        if range_header is None and header(asked.headers, b"authorization") is None:
            raw.append(_CACHE_CONTROL)
        if matches_etag(header(asked.headers, b"if-none-match"), known.etag):
            asset.close()
            return self._finished(asked, 304, raw, Payload(None))
        if status == 200 and asked.method == "GET":
            try:
                part = requested_part(range_header, header(asked.headers, b"if-range"), known.etag, size)
            except NotSatisfiable:
                asset.close()
                return self._plain(asked, 416, (b"content-range", b"bytes */%d" % size))
        start, end = 0, size
        if part is not None:
            status, start, end = 206, part.start, part.end
            raw.append((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size)))
        raw.append((b"content-length", b"%d" % (end - start)))
        if asked.method == "GET" and known.content is None:
            assert asset.file is not None
            pieces = FilePieces(asset.file, start, end, self._offload)
            stream = ReadableStream.of_receive(pieces.receive, pieces.close)
            return self._finished(asked, status, raw, Payload(None, stream))
        asset.close()
        if asked.method == "HEAD" or known.content is None:
            return self._finished(asked, status, raw, Payload(None))
        return self._finished(asked, status, raw, Payload(known.content[start:end]))

    def _plain(self, asked: _Asked, status: int, *more: tuple[bytes, bytes]) -> Response:
        return self._finished(asked, status, list(more), Payload(None))

    def _finished(self, asked: _Asked, status: int, raw: RawHeaders, payload: Payload) -> Response:
        self._rules.apply_headers(asked.host, asked.path, raw)
        return Response._of(status, raw, payload)

    def __repr__(self) -> str:
        return "<AssetServer>"


def _asked_by_script(resource: Any, options: dict[str, Any]) -> _Asked:
    if isinstance(resource, Request) and not options:
        request = resource
    else:
        if isinstance(resource, str) and resource.startswith("/"):
            resource = _ANY_ORIGIN + resource
        request = Request(resource, **options)
    host, target = split_url(request.url)
    path, query = split_target(target)
    return _Asked(request.method, host, path, query, request._raw_headers)


def _location(to: str, query: str) -> tuple[bytes, bytes]:
    """The Location header of a redirect rule: the request's query is kept unless the rule has one."""
    base, mark, fragment = to.partition("#")
    target = base if "?" in base else base + query
    return b"location", (target + mark + fragment).encode("utf-8", "replace")
