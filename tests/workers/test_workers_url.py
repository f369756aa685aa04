import pytest

from edge_runtime.workers.url import URL, URLSearchParams, normalize_url


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("https://test.com", "https://test.com/"),
        ("HTTP://User:pw@EXAMPLE.com:80/a/../b/./c?q=1 2#f", "http://User:pw@example.com/b/c?q=1%202#f"),
        ("http://localhost:8787?x", "http://localhost:8787/?x"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("http://[::1]:80/", "http://[::1]/"),
        (" http://a/b%20c\n", "http://a/b%20c"),
        ("http://a/x/..", "http://a/"),
        ("http://a/x/%2E%2e/y", "http://a/y"),
        ("data:text/plain,hi", "data:text/plain,hi"),
    ],
)
def test_urls_are_normalised(given, normal):
    assert normalize_url(given) == normal


@pytest.mark.parametrize("text", ["", "foo", "//a/b", "http://", "http://a b/", "http://a:99999/", "http://[x/"])
def test_what_is_no_url_is_refused(text):
    with pytest.raises(TypeError, match="Invalid URL"):
        normalize_url(text)


def test_url_parts():
    url = URL.new("/p/q?a=1&b=2#h", "https://u:p@host.example:444/x")
    assert url.href == "https://u:p@host.example:444/p/q?a=1&b=2#h"
    assert (url.protocol, url.host, url.hostname, url.port) == ("https:", "host.example:444", "host.example", "444")
    assert (url.pathname, url.search, url.hash, url.origin) == ("/p/q", "?a=1&b=2", "#h", "https://host.example:444")
    url.searchParams.set("a", "x y")
    url.pathname = "z"
    assert str(url) == "https://u:p@host.example:444/z?a=x+y&b=2#h"
    assert URL.canParse("http://a/")
    assert not URL.canParse("nope")


def test_search_params():
    params = URLSearchParams.new("?a=1&b=2&a=3")
    assert (params.get("a"), params.getAll("a"), params.get("z")) == ("1", ["1", "3"], None)
    params.append("c", 4)
    params.delete("b")
    params.set("a", 9)
    assert params.toString() == "a=9&c=4"
    assert list(URLSearchParams({"x": "1"})) == [("x", "1")]
    assert "x" in URLSearchParams([("x", "1")])
