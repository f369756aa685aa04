from http import HTTPMethod

import pytest

from edge_runtime.workers import Blob, FormData, Request
from edge_runtime.workers.headers import Headers
from edge_runtime.workers.request import JsRequest
from edge_runtime.workers.streams import ReadableStream


def received(*pieces):
    left = list(pieces)

    async def receive():
        return left.pop(0) if left else None

    return receive


def test_request_shows_method_and_normalised_url():
    request = Request("https://Test.com", method=HTTPMethod.POST)
    assert request.method == HTTPMethod.POST == "POST"
    assert repr(request) == "Request(method='POST', url='https://test.com/')"


def test_headers_come_from_dict_tuples_and_js_headers():
    assert Request("http://example.com", headers={"aaaa": "test"}).headers["aaaa"] == "test"
    js_headers = Headers.new()
    js_headers.append("Accept-encoding", "deflate")
    js_headers.append("Accept-encoding", "gzip")
    request = Request("http://example.com", headers=js_headers)
    assert request.headers.get_all("Accept-encoding") == ["deflate, gzip"]
    cookies = Request("http://example.com", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    assert cookies.headers.get_all("Set-Cookie") == ["a=1", "b=2"]


def test_changing_the_headers_message_changes_nothing_else():
    request = Request("http://example.com")
    request.headers["x"] = "1"
    assert request.headers.get("x") is None


async def test_body_is_read_once():
    request = Request("http://example.com", body='{"field": 42}', method="POST")
    assert (await request.json())["field"] == 42
    assert request.body_used
    with pytest.raises(OSError, match="Body already used"):
        await request.text()
    with pytest.raises(OSError, match="Body already used"):
        request.clone()


async def test_clone_can_be_read_as_well_as_the_original():
    request = Request._incoming("POST", "http://example.com/", [], received(b"ab", b"c"))
    clone = request.clone()
    assert await clone.text() == "abc"
    assert await request.text() == "abc"


async def test_incoming_body_is_a_stream_of_the_pieces_received():
    request = Request._incoming("POST", "http://example.com/", [], received(b"ab", b"c"))
    assert not request.body_used
    assert [bytes(piece) async for piece in request.body] == [b"ab", b"c"]
    assert request.body_used
    assert Request._incoming("GET", "http://example.com/", [], None).body is None


async def test_body_readers_give_each_form():
    def request():
        return Request("http://example.com", body="foobar", method="POST", headers={"content-type": "x/y"})

    blob = await request().blob()
    assert await blob.text() == "foobar"
    assert blob.content_type == "x/y"
    assert await request().bytes() == b"foobar"
    assert (await request().buffer()).to_bytes() == b"foobar"


async def test_form_data_goes_round():
    form = FormData({"foobar": 123})
    form.append("file", Blob("{}", content_type="text/python"), filename="metadata.json")
    read = await Request("http://example.com", body=form, method="POST").form_data()
    assert read["foobar"] == "123"
    assert read["file"].name == "metadata.json"
    assert await read["file"].text() == "{}"


def test_cf_is_none_unless_given():
    assert Request("https://test.com").cf is None
    assert Request("https://test.com", cf={"colo": "DFW"}).cf.colo == "DFW"


def test_js_object_shares_everything():
    request = Request("http://example.com", headers={"a": "b"})
    assert Request(request.js_object).headers["a"] == "b"
    assert request._js_request.headers.get("A") == "b"
    with pytest.raises(ValueError, match=r"no options .* js.Request"):
        Request(request.js_object, method="POST")


async def test_a_request_made_from_another_takes_its_body():
    first = Request("http://example.com/a", method="POST", body="x")
    second = Request(first, headers={"a": "b"})
    assert (second.url, second.method, second.headers["a"]) == (first.url, "POST", "b")
    assert await second.text() == "x"
    assert first.body_used


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("not a url", {}, "Invalid URL"),
        ("/path", {}, "Invalid URL"),
        ("http://x/", {"method": "GET", "body": "x"}, "GET or HEAD"),
        ("http://x/", {"method": "CONNECT"}, "not allowed"),
        ("http://x/", {"method": "G T"}, "Invalid HTTP method"),
        ("http://x/", {"redirect": "sometimes"}, "Invalid redirect"),
        ("http://x/", {"headerz": {}}, "unknown options: headerz"),
        ("http://x/", {"method": "POST", "body": object()}, "Unsupported type in Request: object"),
    ],
)
def test_unusable_arguments_are_refused(url, options, message):
    with pytest.raises(TypeError, match=message):
        Request(url, **options)


async def test_a_stream_that_was_read_is_no_body():
    stream = ReadableStream.of_bytes(b"x")
    await stream.read_all()
    with pytest.raises(TypeError, match="disturbed"):
        Request("http://x/", method="POST", body=stream)
    locked = ReadableStream.of_bytes(b"x")
    locked.getReader()
    with pytest.raises(TypeError, match="locked"):
        Request("http://x/", method="POST", body=locked)


async def test_js_request_has_javascript_names():
    request = JsRequest.new("http://x/a?b=1", method="POST", body="hi", headers={"A": "b"})
    assert (request.method, request.url, next(iter(request.headers))) == ("POST", "http://x/a?b=1", ("a", "b"))
    assert request.constructor.name == "Request"
    assert (await request.arrayBuffer()).byteLength == 2
    assert request.bodyUsed
