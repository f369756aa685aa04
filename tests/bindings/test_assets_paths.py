from __future__ import annotations

import os
from urllib.parse import quote

import pytest
from asset_folders import ask, serving
from hypothesis import given
from hypothesis import strategies as st

from bindings.assets.files import open_beneath
from bindings.assets.paths import decode_path, encode_path, is_servable

HOSTILE = [
    "/../secret.txt",
    "/a/../../secret.txt",
    "/..%2fsecret.txt",
    "/%2e%2e/secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/.%2e/secret.txt",
    "/a/%2e%2e/%2e%2e/secret.txt",
    "/%252e%252e/secret.txt",
    "/..\\secret.txt",
    "/..%5csecret.txt",
    "/%5c..%5csecret.txt",
    "/./index.html",
    "/a/./b.txt",
    "/index.html%00",
    "/index.html%00.txt",
    "/%00",
    "/a%0d%0ab",
    "/%c0%ae%c0%ae/secret.txt",
    "/%ff",
    "/%",
    "/%2",
    "/%zz",
    "/.hidden",
    "/%2ehidden",
    "/a/.hidden",
    "/.git/config",
    "/.well-known/.hidden",
    "/a/.well-known/x",
    "/_headers",
    "/_redirects",
    "/_worker.js",
    "/.assetsignore",
    "/a%2fb.txt",
    "/link.txt",
    "/linkdir/secret.txt",
    "/folder",
    "/fifo",
    "//secret.txt",
    "/....//secret.txt",
    "/" + "a" * 5000,
    "/" + "a/" * 2000,
    "*",
    "",
    "secret.txt",
    "http://example.com/../secret.txt",
]


@pytest.fixture
def server(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    root = tmp_path / "public"
    made = serving(
        root,
        {
            "index.html": "home",
            "a/b.txt": "b",
            "a/.hidden": "secret",
            ".hidden": "secret",
            ".git/config": "secret",
            ".well-known/security.txt": "contact",
            ".well-known/.hidden": "secret",
            "a/.well-known/x": "secret",
            "_headers": "/x\n  secret: 1",
            "_redirects": "/x-secret /y",
            "_worker.js": "secret",
            ".assetsignore": "*.secret",
            "x.secret": "secret",
        },
    )
    (root / "folder").mkdir()
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    (root / "linkdir").symlink_to(tmp_path)
    os.mkfifo(root / "fifo")
    return made


@pytest.mark.parametrize("target", HOSTILE)
async def test_hostile_path_serves_no_file(server, target):
    reply = await ask(server, target)
    assert reply is None or (reply.status == 404 and b"secret" not in reply.body)


async def test_honest_neighbours_of_hostile_paths_are_served(server):
    assert (await ask(server, "/a/b.txt")).body == b"b"
    assert (await ask(server, "/.well-known/security.txt")).body == b"contact"
    assert (await ask(server, "/")).body == b"home"
    assert await ask(server, "/x.secret") is None


async def test_folder_itself_may_be_a_link_and_may_be_replaced(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "f.txt").write_text("1")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "f.txt").write_text("2")
    link = tmp_path / "public"
    link.symlink_to(tmp_path / "one")
    server = serving(link, {})
    assert (await ask(server, "/f.txt")).body == b"1"
    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert (await ask(server, "/f.txt")).body == b"2"


def test_component_that_becomes_a_link_leads_nowhere(tmp_path):
    (tmp_path / "public" / "sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "f.txt").write_text("secret")
    (tmp_path / "public" / "sub").rmdir()
    (tmp_path / "public" / "sub").symlink_to(tmp_path / "outside")
    assert open_beneath(str(tmp_path / "public"), "/sub/f.txt") is None


@given(st.text(max_size=40) | st.text("/.%2eE5cC0\\\0ab", max_size=40))
def test_decoded_path_has_only_honest_segments(raw):
    path = decode_path(raw)
    if path is None:
        return
    assert path.startswith("/")
    for segment in path.split("/"):
        assert segment == ".well-known" or not segment.startswith(".")
        assert not set(segment) & {"\0", "\\", "\n", "\r"}


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4))
def test_canonical_path_decodes_to_itself(segments):
    path = "/" + "/".join(segments)
    try:
        decoded = decode_path("/" + "/".join(quote(segment, safe="") for segment in segments))
    except UnicodeEncodeError:
        return
    if decoded is not None:
        assert decoded == path
        assert decode_path(encode_path(path)) == path


@pytest.mark.parametrize("path", ["/a", "/a/b.txt", "/.well-known/x", "/sub/_headers"])
def test_servable_names(path):
    assert is_servable(path)


@pytest.mark.parametrize(
    "path", ["/", "", "/a/", "/.html", "/a/.html", "//index.html", "/.well-known", ".html", "/_headers", "/a//b"]
)
def test_names_that_are_not_servable(path):
    assert not is_servable(path)
