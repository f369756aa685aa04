from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bindings.assets.globs import IgnoreRules, worker_first
from bindings.assets.rules import RedirectTarget, Rules, parse_rules


def redirects(text: str) -> Rules:
    return parse_rules("", text, "auto-trailing-slash")


def headers_for(text: str, path: str, host: str = "example.com") -> list[tuple[bytes, bytes]]:
    raw = [(b"etag", b'"x"'), (b"cache-control", b"ours")]
    rules = parse_rules(text, "", "auto-trailing-slash")
    assert rules.problems == ()
    rules.apply_headers(host, path, raw)
    return raw


@pytest.mark.parametrize(
    ("text", "path", "target"),
    [
        ("/a /b", "/a", RedirectTarget("/b", 302)),
        ("/a /b 301", "/a", RedirectTarget("/b", 301)),
        ("/a /b 200", "/a", RedirectTarget("/b", 200)),
        ("/a /b 308 # why", "/a", RedirectTarget("/b", 308)),
        ("/a /b # why", "/a", RedirectTarget("/b", 302)),
        ("# comment\n\n  /a   https://x.test/y#frag  303  ", "/a", RedirectTarget("https://x.test/y#frag", 303)),
        ("/a /b", "/a/", None),
        ("/blog/* /news/:splat", "/blog/2024/x", RedirectTarget("/news/2024/x", 302)),
        ("/blog/* /news/:splat", "/blog", None),
        ("/u/:id/p/:id_2 /x/:id_2/:id", "/u/1/p/2", RedirectTarget("/x/2/1", 302)),
        ("/u/:id /x/:other", "/u/1", RedirectTarget("/x/:other", 302)),
        ("/* /:splat", "//evil.test", RedirectTarget("/evil.test", 302)),
        ("/x/* /first\n/x/y /second", "/x/y", RedirectTarget("/first", 302)),
        ("/x/y /exact\n/x/* /pattern", "/x/y", RedirectTarget("/exact", 302)),
        ("/a.b /dot", "/aXb", None),
        ("/a(b /paren", "/a(b", RedirectTarget("/paren", 302)),
    ],
)
def test_redirect_rules(text, path, target):
    rules = redirects(text)
    assert rules.redirect(path) == target
    assert rules.problems == ()


@pytest.mark.parametrize(
    "line",
    [
        "/only-one",
        "/a /b 302 extra",
        "/a /b 404",
        "/a /b abc",
        "a /b",
        "https://x.test/a /b",
        "/a b",
        "/a javascript:alert(1)",
        "/a https://x.test/ 200",
        "/* /index.html",
        "/ /index",
        "/*/* /b",
        "/:a/:a /b",
        "/a /b" + "x" * 2000,
    ],
)
def test_bad_redirect_line_is_left_out_and_described(line):
    rules = redirects(f"{line}\n/good /b")
    assert len(rules.problems) == 1
    assert rules.problems[0].startswith("_redirects:1: ")
    assert rules.redirect("/good") == RedirectTarget("/b", 302)


def test_second_rule_for_a_path_is_left_out():
    rules = redirects("/a /b\n/a /c")
    assert rules.redirect("/a") == RedirectTarget("/b", 302)
    assert len(rules.problems) == 1


def test_number_of_rules_is_bounded():
    rules = redirects("\n".join(f"/{i} /x" for i in range(2001)) + "\n" + "\n".join(f"/{i}/* /x" for i in range(101)))
    assert len(rules.static) == 2000
    assert len(rules.dynamic) == 100
    assert len(rules.problems) == 2


def test_header_rules_set_combine_and_remove():
    text = "/*\n  X-One: 1\n  X-One: 2\n/a/*\n  x-one: 3\n  Cache-Control: public: yes\n/a/b\n  ! ETag\n"
    assert headers_for(text, "/a/b") == [(b"x-one", b"1, 2"), (b"x-one", b"3"), (b"cache-control", b"public: yes")]
    assert headers_for(text, "/z") == [(b"etag", b'"x"'), (b"cache-control", b"ours"), (b"x-one", b"1, 2")]


def test_header_rules_of_hosts_and_placeholders():
    text = "https://:sub.example.com/*\n  X-Sub: :sub, :splat\n"
    assert (b"x-sub", b"api, p/q") in headers_for(text, "/p/q", "api.example.com")
    assert headers_for(text, "/p/q", "a.b.example.com") == [(b"etag", b'"x"'), (b"cache-control", b"ours")]


@pytest.mark.parametrize(
    "text",
    [
        "X-Early: 1",
        "/a\n  no colon",
        "/a\n  bad name: 1",
        "/a\n  X-Empty:",
        "/a\n  X: a\rb",
        "ftp://x/\n",
        "/*/*\n",
        "/a\n  : v",
    ],
)
def test_bad_header_line_is_left_out_and_described(text):
    rules = parse_rules(f"{text}\n/good\n  X-Good: 1\n", "", "none")
    assert len(rules.problems) == 1
    raw: list[tuple[bytes, bytes]] = []
    rules.apply_headers("h", "/good", raw)
    assert raw == [(b"x-good", b"1")]


@given(st.text(), st.text(), st.text("/ab*:", max_size=12))
def test_no_rules_file_breaks_serving(headers_file, redirects_file, path):
    rules = parse_rules(headers_file, redirects_file, "none")
    rules.redirect("/" + path)
    raw: list[tuple[bytes, bytes]] = []
    rules.apply_headers("example.com", "/" + path, raw)
    for name, value in raw:
        assert not {10, 13, 0} & set(name + value)


def test_worker_first_rules_and_their_exceptions():
    rules = worker_first(["/api/*", "!/api/docs/*", "/exact"])
    assert rules.decide("/api/x/y") == "worker"
    assert rules.decide("/api/docs/x") == "assets"
    assert rules.decide("/exact") == "worker"
    assert rules.decide("/exact/") is None
    assert rules.decide("/other") is None


@pytest.mark.parametrize(
    ("text", "ignored", "served"),
    [
        ("*.map", ["/a.map", "/x/y.map"], ["/map", "/a.mapx"]),
        ("/top.txt", ["/top.txt"], ["/x/top.txt"]),
        ("node_modules/", ["/node_modules/a", "/x/node_modules/b/c"], ["/node_modules"]),
        ("docs/*.md", ["/docs/a.md"], ["/docs/x/a.md", "/x/docs/a.md"]),
        ("docs/**", ["/docs/a", "/docs/x/y"], ["/docs"]),
        ("**/tmp", ["/tmp", "/a/b/tmp", "/tmp/x"], ["/tmpx"]),
        ("a/**/b", ["/a/b", "/a/x/y/b"], ["/ab"]),
        ("*.txt\n!keep.txt", ["/a.txt"], ["/keep.txt", "/x/keep.txt"]),
        ("out/\n!out/keep", ["/out/keep"], []),
        ("# comment\n\n\\#file", ["/#file"], ["/# comment"]),
        ("f?le[0-9].x", ["/file1.x"], ["/file.x", "/f/le1.x"]),
        ("[!a]b", ["/xb"], ["/ab"]),
        ("trailing   ", ["/trailing"], []),
        ("[", [], ["/a"]),
        ("/", [], ["/a"]),
        ("", [], ["/a"]),
    ],
)
def test_assetsignore_lines(text, ignored, served):
    rules = IgnoreRules(text)
    assert [path for path in ignored if not rules.ignores(path)] == []
    assert [path for path in served if rules.ignores(path)] == []


@given(st.text(), st.text("ab/.*[]!", min_size=1))
def test_no_ignore_file_breaks_serving(text, path):
    IgnoreRules(text).ignores("/" + path)
