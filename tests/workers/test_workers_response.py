from http import HTTPStatus

import pytest

from edge_runtime.workers import Blob, FormData, Response
from edge_runtime.workers.buffers import Float64Array, Int16Array, Uint8Array
from edge_runtime.workers.response import JsResponse
from edge_runtime.workers.status import HttpStatusError
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workers.url import URLSearchParams


async def test_json_on_the_class_makes_and_on_a_response_reads():
    made = Response.json({"obj": {"field": 123}}, status=HTTPStatus.NOT_FOUND)
    assert await made.text() == '{"obj": {"field": 123}}'
    assert made.status == 404
    assert await Response("[1, 2, 3]").json() == [1, 2, 3]
    assert repr(Response.json([1])) == "Response(status=200, status_text='OK', content_type='application/json')"
    assert await Response.from_json("test").text() == '"test"'
    assert Response.json("test", headers={"x-other": "42"}).headers.get("content-type") == "application/json"
    assert Response.json("test", headers={"Content-Type": "42"}).headers.get("content-type") == "42"
    with pytest.raises(TypeError, match="Object of type set is not JSON serializable"):
        Response.json({1, 2, 3})


def test_text_is_sent_as_plain_text_with_its_length():
    outgoing = Response("Grüße")._outgoing()
    assert outgoing.status == 200
    assert outgoing.headers == [(b"content-type", b"text/plain;charset=UTF-8")]
    assert outgoing.headers_with_length == [*outgoing.headers, (b"content-length", b"7")]
    assert outgoing.body == "Grüße".encode()


def test_own_content_type_is_kept():
    assert Response("x", headers={"Content-Type": "text/html"})._outgoing().headers[0] == (
        b"content-type",
        b"text/html",
    )


@pytest.mark.parametrize(
    ("body", "content_type", "sent"),
    [
        (b"\x00\x01", None, b"\x00\x01"),
        (memoryview(b"ab"), None, b"ab"),
        (Blob("x", content_type="a/b"), "a/b", b"x"),
        (URLSearchParams({"a": "1 2"}), "application/x-www-form-urlencoded;charset=UTF-8", b"a=1+2"),
        (Uint8Array.new([1, 2, 3]), None, b"\x01\x02\x03"),
        (Uint8Array.new([1, 2, 3]).buffer, None, b"\x01\x02\x03"),
        (Int16Array.new([0, 1, -1]).subarray(1), None, b"\x01\x00\xff\xff"),
        (Float64Array.new([1.5]), None, b"\x00\x00\x00\x00\x00\x00\xf8?"),
    ],
)
def test_each_kind_of_body(body, content_type, sent):
    response = Response(body)
    assert response.headers.get("content-type") == content_type
    assert response._outgoing().body == sent


def test_form_data_is_sent_as_multipart():
    outgoing = Response(FormData({"field": "value"}))._outgoing()
    assert outgoing.headers[0][1].startswith(b"multipart/form-data; boundary=")
    assert b'name="field"\r\n\r\nvalue\r\n' in outgoing.body


@pytest.mark.parametrize("body", [object(), 5, [b"x"], {"a": 1}])
def test_unsupported_bodies_are_named(body):
    with pytest.raises(TypeError, match=f"Unsupported type in Response: {type(body).__name__}"):
        Response(body)


@pytest.mark.parametrize("status", [199, 600, 1000, 101])
def test_statuses_out_of_range_are_refused(status):
    with pytest.raises(ValueError, match="200 to 599"):
        Response("x", status=status)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_null_body_statuses_have_no_body(status):
    assert Response(None, status=status).body is None
    assert Response("", status=status)._outgoing().body == b""
    with pytest.raises(TypeError, match="cannot have a body"):
        Response("x", status=status)
    assert b"content-length" not in dict(Response(None, status=204)._outgoing().headers_with_length)


def test_zero_and_none_mean_200():
    assert Response("x", status=None).status == Response("x", status=0).status == 200


def test_redirect_has_a_location_and_refuses_other_statuses():
    response = Response.redirect("https://example.com/sub", status=301)
    assert (response.status, response.headers["Location"]) == (301, "https://example.com/sub")
    assert Response.redirect("https://example.com").status == 302
    with pytest.raises(ValueError, match="502 is not a redirect status code"):
        Response.redirect("", HTTPStatus.BAD_GATEWAY)
    with pytest.raises(TypeError, match="Invalid URL"):
        Response.redirect("nowhere")


async def test_replace_body_keeps_the_rest():
    cloned = Response("test", status=201, status_text="Made", headers={"a": "b"}).replace_body("other")
    assert (cloned.status, cloned.status_text, cloned.headers["a"]) == (201, "Made", "b")
    assert await cloned.text() == "other"


async def test_clone_and_second_reading():
    response = Response(ReadableStream.of_bytes(b"test"))
    clone = response.clone()
    assert await response.text() == await clone.text() == "test"
    with pytest.raises(OSError, match="Body already used"):
        await response.bytes()
    with pytest.raises(TypeError, match="already been used"):
        response._outgoing()


def test_a_response_is_sent_once():
    response = Response("x")
    response._outgoing()
    with pytest.raises(TypeError, match="already been used"):
        response._outgoing()


def test_js_response_is_shared_and_takes_no_options():
    js_response = JsResponse.new("x", status=201, headers={"a": "b"})
    js_response.headers.set("a", "c")
    response = Response(js_response)
    assert (response.status, response.headers["a"]) == (201, "c")
    with pytest.raises(ValueError, match=r"no options .* js.Response"):
        Response(js_response, status=200)


def test_repeated_headers_read_combined():
    response = Response("x", headers=[("Custom", "modified"), ("Custom", "another")])
    assert response.headers.get("custom") == "modified, another"


def test_raise_for_status():
    Response("x").raise_for_status()
    with pytest.raises(HttpStatusError, match="404 Client Error: Not Found") as caught:
        Response("x", status=404).raise_for_status()
    assert isinstance(caught.value, OSError)
    assert not Response("x", status=404).ok


async def test_byte_order_mark_and_bad_bytes_in_text():
    assert await Response(b"\xef\xbb\xbfa\xff").text() == "a\ufffd"
