from __future__ import annotations

import os
import re

import pytest
from asset_folders import ask, sent, serving, write_files
from kv_fakes import running_event

from bindings.assets import files as files_module
from bindings.assets.content_types import content_type
from bindings.assets.files import AssetChanged
from bindings.assets.ranges import NotSatisfiable, Part, requested_part
from edge_runtime.limits import ASSET_CACHED_MAX
from edge_runtime.workers.request import Request

PAGE = {"index.html": "<h1>home</h1>", "about.html": "about", "style.css": "a{}"}
LARGE = bytes(range(256)) * 2000


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "public"
    folder.mkdir()
    return folder


async def test_asset_is_served_with_type_tag_and_caching(root):
    server = serving(root, PAGE)
    reply = await ask(server, "/?q=1")
    assert (reply.status, reply.body) == (200, b"<h1>home</h1>")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["cache-control"] == "public, max-age=0, must-revalidate"
    assert reply.headers["content-length"] == "13"
    assert re.fullmatch(r'"[0-9a-f]{32}"', reply.headers["etag"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/index.html", b"text/html; charset=utf-8"),
        ("/image.svg", b"image/svg+xml"),
        ("/style.css", b"text/css; charset=utf-8"),
        ("/script.js", b"text/javascript; charset=utf-8"),
        ("/module.MJS", b"text/javascript; charset=utf-8"),
        ("/favicon.ico", b"image/vnd.microsoft.icon"),
        ("/painting.jpg", b"image/jpeg"),
        ("/data.json", b"application/json"),
        ("/mod.wasm", b"application/wasm"),
        ("/font.woff2", b"font/woff2"),
        ("/site.webmanifest", b"application/manifest+json"),
        ("/archive.tar.gz", b"application/gzip"),
        ("/README", None),
        ("/a.b/README", None),
        ("/strange.zzz", None),
    ],
)
def test_content_types(name, expected):
    assert content_type(name) == expected


async def test_file_without_known_type_has_none(root):
    reply = await ask(serving(root, {"LICENSE": "x"}), "/LICENSE")
    assert reply.status == 200
    assert "content-type" not in reply.headers


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["remembered", "streamed"])
async def test_head_has_the_headers_of_get_and_no_body(root, content):
    server = serving(root, {"f.bin": content})
    head, get = await ask(server, "/f.bin", "HEAD"), await ask(server, "/f.bin")
    assert head.body == b""
    assert head.headers == get.headers
    assert head.headers["content-length"] == str(len(content))


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["remembered", "streamed"])
async def test_known_tag_is_answered_with_304(root, content):
    server = serving(root, {"f.bin": content})
    etag = (await ask(server, "/f.bin")).headers["etag"]
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        reply = await ask(server, "/f.bin", if_none_match=given)
        assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", etag)
        assert "content-length" not in reply.headers
    assert (await ask(server, "/f.bin", if_none_match='"other"')).status == 200


@pytest.mark.parametrize("size", [10, 100_000])
async def test_tag_follows_the_content(root, size):
    server = serving(root, {"f.bin": b"a" * size})
    first = await ask(server, "/f.bin")
    write_files(root, {"f.bin": b"b" * size})
    second = await ask(server, "/f.bin")
    assert second.body == b"b" * size
    assert first.headers["etag"] != second.headers["etag"]
    write_files(root, {"g.bin": b"a" * size})
    assert (await ask(server, "/g.bin")).headers["etag"] == first.headers["etag"]


async def test_deleted_file_is_gone_and_new_file_is_there_at_once(root):
    server = serving(root, {"f.txt": "1"})
    assert (await ask(server, "/f.txt")).body == b"1"
    (root / "f.txt").unlink()
    assert await ask(server, "/f.txt") is None
    write_files(root, {"g.txt": "2"})
    assert (await ask(server, "/g.txt")).body == b"2"


async def test_large_file_is_streamed_whole(root):
    server = serving(root, {"f.bin": LARGE})
    assert len(LARGE) > ASSET_CACHED_MAX
    for _ in range(2):
        reply = await ask(server, "/f.bin")
        assert reply.body == LARGE
        assert reply.headers["content-length"] == str(len(LARGE))


async def test_file_that_shrinks_while_it_is_sent_cuts_the_body_off(root):
    server = serving(root, {"f.bin": LARGE})
    response = await server.answer("GET", b"/f.bin", [])
    os.truncate(root / "f.bin", 1000)
    with pytest.raises(AssetChanged, match="ended after 1000 bytes"):
        await sent(response)


async def test_open_files_are_closed_whatever_becomes_of_the_response(root):
    server = serving(root, {"f.bin": LARGE, "s.txt": "s"})
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await ask(server, "/f.bin")
        await ask(server, "/f.bin", "HEAD")
        await ask(server, "/f.bin", if_none_match="*")
        await ask(server, "/f.bin", range="bytes=999999999-")
        await ask(server, "/f.bin", "POST")
        await ask(server, "/s.txt")
        await ask(server, "/missing")
        await server.answer("GET", b"/f.bin", [])
        response = await server.answer("GET", b"/f.bin", [])
        await response.body.cancel()
        del response
    assert len(os.listdir("/proc/self/fd")) == before


async def test_memory_for_small_files_is_bounded(root, monkeypatch):
    monkeypatch.setattr(files_module, "ASSET_CACHE_BYTES", 100)
    server = serving(root, {f"{i}.txt": f"{i:040}" for i in range(10)})
    for _ in range(2):
        for i in range(10):
            assert (await ask(server, f"/{i}.txt")).body == f"{i:040}".encode()
    assert server._folder._cached_bytes <= 100


async def test_other_methods_on_an_asset_are_not_allowed(root):
    reply = await ask(serving(root, PAGE), "/about", "POST")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


async def test_redirects_keep_the_query_and_encode_the_path(root):
    server = serving(root, PAGE | {"a b/ü.html": "x", "[x].txt": "y"})
    assert (await ask(server, "/about.html?x=1&y")).headers["location"] == "/about?x=1&y"
    assert (await ask(server, "/a%20b/%C3%BC.html")).headers["location"] == "/a%20b/%C3%BC"
    assert (await ask(server, "/a%20b/%C3%BC")).body == b"x"
    assert (await ask(server, "/[x].txt")).headers["location"] == "/%5Bx%5D.txt"
    assert (await ask(server, "/%5bx%5d.txt")).headers["location"] == "/%5Bx%5D.txt"
    assert (await ask(server, "/%5Bx%5D.txt")).body == b"y"
    reply = await ask(server, "//about")
    assert (reply.status, reply.headers["location"]) == (307, "/about")


@pytest.mark.parametrize(
    ("given", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, b"", "bytes */10"),
        ("bytes=-0", 416, b"", "bytes */10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=3-1", 200, b"0123456789", None),
        ("bytes=-", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        ("bytes=a-b", 200, b"0123456789", None),
    ],
)
async def test_single_ranges_are_served(root, given, status, body, content_range):
    reply = await ask(serving(root, {"f.txt": "0123456789"}), "/f.txt", range=given)
    assert (reply.status, reply.body, reply.headers.get("content-range")) == (status, body, content_range)
    assert reply.headers["content-length"] == str(len(body))


async def test_range_of_a_large_file_is_streamed(root):
    reply = await ask(serving(root, {"f.bin": LARGE}), "/f.bin", range="bytes=1000-400999")
    assert reply.status == 206
    assert reply.body == LARGE[1000:401_000]


def test_range_of_another_state_gives_the_whole_file():
    assert requested_part("bytes=0-1", '"old"', '"new"', 10) is None
    assert requested_part("bytes=0-1", '"new"', '"new"', 10) == Part(0, 2)
    with pytest.raises(NotSatisfiable):
        requested_part("bytes=0-", None, '"e"', 0)


async def test_authorized_requests_are_not_marked_cacheable(root):
    reply = await ask(serving(root, PAGE), "/", authorization="Bearer x")
    assert "cache-control" not in reply.headers


async def test_rules_files_apply_to_what_is_served(root):
    server = serving(
        root,
        PAGE
        | {
            "_redirects": "/old /about 301\n/proxy/* /about 200\n/gone /missing 200\n/out https://x.test/a?b=1#c",
            "_headers": "/*\n  X-Frame-Options: DENY\n/about\n  Cache-Control: no-store\n  ! ETag",
        },
    )
    moved = await ask(server, "/old?x=1")
    assert (moved.status, moved.headers["location"]) == (301, "/about?x=1")
    assert moved.headers["x-frame-options"] == "DENY"
    assert (await ask(server, "/proxy/any/thing")).body == b"about"
    assert (await ask(server, "/gone")).status == 404
    assert (await ask(server, "/out?z=1")).headers["location"] == "https://x.test/a?b=1#c"
    about = await ask(server, "/about")
    assert about.headers["cache-control"] == "no-store"
    assert "etag" not in about.headers


async def test_without_an_asset_the_script_is_asked(root):
    server = serving(root, PAGE | {"404.html": "lost"}, not_found="404-page")
    assert await ask(server, "/api/x") is None
    assert await ask(server, "/api/x", "POST") is None


async def test_browser_navigation_prefers_the_page_of_an_application(root):
    spa = "single-page-application"
    server = serving(root, PAGE, not_found=spa)
    assert (await ask(server, "/route", sec_fetch_mode="navigate")).body == b"<h1>home</h1>"
    assert await ask(server, "/route", sec_fetch_mode="cors") is None
    older = serving(root, PAGE, not_found=spa, navigation=False)
    assert await ask(older, "/route", sec_fetch_mode="navigate") is None


async def test_worker_without_script_answers_everything(root):
    plain = serving(root, PAGE, script=False)
    assert (await ask(plain, "/missing")).status == 404
    lost = serving(root, PAGE | {"404.html": "lost"}, script=False, not_found="404-page")
    reply = await ask(lost, "/missing")
    assert (reply.status, reply.body) == (404, b"lost")
    spa = serving(root, PAGE, script=False, not_found="single-page-application")
    assert (await ask(spa, "/missing")).status == 200


async def test_worker_first_leaves_everything_to_the_script(root):
    server = serving(root, PAGE, first=True)
    assert await ask(server, "/") is None
    assert (await sent(server.fetch("/").result())).status == 200


async def test_worker_first_rules_divide_the_paths(root):
    server = serving(root, PAGE | {"api/doc.txt": "doc", "api/x": "file"}, first=["/api/*", "!/api/doc*"])
    assert await ask(server, "/api/x") is None
    assert (await ask(server, "/api/doc.txt")).body == b"doc"
    assert (await ask(server, "/api/docs-missing")).status == 404
    assert (await ask(server, "/about")).body == b"about"
    assert await ask(server, "/missing") is None


async def test_script_fetches_by_request_url_or_path(root):
    server = serving(root, PAGE)
    request = Request("https://anything.test/about")
    for resource in (request, request.js_object, "http://assets/about", "/about"):
        promise = server.fetch(resource)
        assert promise.settled
        assert await (await promise).text() == "about"
    assert (await server.fetch("/missing")).status == 404
    assert (await server.fetch("/about", method="POST")).status == 405
    assert (await server.fetch(Request("http://x/about", method="HEAD"))).headers["content-length"] == "5"
    etag = (await server.fetch("/about")).headers["etag"]
    assert (await server.fetch("/about", headers={"If-None-Match": etag})).status == 304


async def test_script_fetches_a_large_file(root):
    server = serving(root, {"f.bin": LARGE})
    async with running_event() as event:
        first = await server.fetch("/f.bin")
        assert await first.bytes() == LARGE
        again = server.fetch("/f.bin")
        assert again.settled
        assert await (await again).bytes() == LARGE
        assert event.meter.subrequests == 2


async def test_script_fetch_counts_against_the_subrequest_limit(root):
    server = serving(root, PAGE)
    async with running_event() as event:
        event.subrequests_max = 1
        await server.fetch("/")
        with pytest.raises(OSError, match="Too many subrequests"):
            await server.fetch("/")


async def test_script_fetch_of_what_is_no_url_is_a_type_error(root):
    server = serving(root, PAGE)
    with pytest.raises(TypeError, match="Invalid URL"):
        await server.fetch("not a url")
    with pytest.raises(TypeError):
        await server.fetch("/", unknown_option=1)
