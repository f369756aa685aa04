import pytest

from edge_runtime.workers.headers import Headers, encode_headers, to_message


def test_duplicates_arrive_combined_and_cookies_apart():
    raw = [(b"accept-encoding", b"deflate"), (b"set-cookie", b"a=b, c=d"), (b"accept-encoding", b"gzip")]
    raw.append((b"set-cookie", b"e=f"))
    message = to_message(raw)
    assert message.get_all("Accept-encoding") == ["deflate, gzip"]
    assert message.get_all("Set-Cookie") == ["a=b, c=d", "e=f"]
    assert message["ACCEPT-ENCODING"] == "deflate, gzip"
    assert message.get("missing") is None


def test_values_become_text_as_javascript_has_it():
    assert encode_headers({"A": True, "b": 123, "c": "  x \n"}) == [(b"a", b"true"), (b"b", b"123"), (b"c", b"x")]


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x", "a\nb", "a\0b"])
def test_line_breaks_in_a_value_are_refused(value):
    with pytest.raises(TypeError, match=r"Invalid header value for 'x'.*line breaks"):
        encode_headers({"x": value})


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "é"])
def test_names_that_are_no_tokens_are_refused(name):
    with pytest.raises(TypeError, match="Invalid header name"):
        encode_headers([(name, "x")])


@pytest.mark.parametrize("headers", ["a: b", 5, [("only-a-name",)], ["ab"]])
def test_other_forms_of_headers_are_refused(headers):
    with pytest.raises(TypeError, match="headers"):
        encode_headers(headers)


def test_headers_of_the_fetch_standard_iterate_sorted_in_pairs():
    headers = Headers.new([("X-B", "1"), ("a", "2")])
    headers.append("x-b", "3")
    assert list(headers) == [("a", "2"), ("x-b", "1, 3")]
    headers.set("X-B", "4")
    headers.delete("A")
    assert headers.entries() == [("x-b", "4")]
    assert headers.has("X-b")
    assert headers.get("nothing") is None


def test_text_beyond_latin_1_is_sent_as_utf_8():
    assert encode_headers({"x": "grüße €"}) == [(b"x", "grüße €".encode())]
