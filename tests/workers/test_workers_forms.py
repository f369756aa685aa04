import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import LimitExceeded
from edge_runtime.limits import FORM_PARTS_MAX
from edge_runtime.workers import Blob, BlobEnding, File, FormData
from edge_runtime.workers.buffers import Uint8Array
from edge_runtime.workers.multipart import decode_form, encode_multipart


def test_form_data_keeps_every_value_of_a_name():
    form = FormData({"key": "foobar"})
    form.append("key", "another")
    form.append("n", 123)
    assert form["key"] == "foobar"
    assert form.get_all("key") == ["foobar", "another"]
    assert form["n"] == "123"
    assert list(form.keys()) == list(form) == ["key", "key", "n"]
    assert list(form.items()) == [("key", "foobar"), ("key", "another"), ("n", "123")]
    assert "unknown key" not in form
    form["key"] = "one"
    assert form.get_all("key") == ["one"]
    with pytest.raises(TypeError, match="single item"):
        form["key"] = ["a", "b"]
    del form["key"]
    assert "key" not in form


def test_form_data_shares_with_what_it_was_made_from():
    js_form = FormData.new()
    js_form.append("a", "1")
    assert FormData(js_form)["a"] == "1"
    with pytest.raises(TypeError, match="dict or an instance of FormData"):
        FormData([("a", "b")])


async def test_blob_is_made_of_parts():
    blob = Blob(["te", b"s", memoryview(b"t"), Uint8Array.new([33]), Blob("?")], content_type="application/json")
    assert await blob.text() == "test!?"
    assert blob.size == 6
    assert await blob.slice(1, 3).text() == "es"
    assert await blob.slice(-1).bytes() == b"?"
    assert blob.js_object.type == blob.content_type == "application/json"
    assert Blob(blob).content_type == "application/json"
    assert Blob(blob, content_type="other/type").content_type == "other/type"
    assert Blob([blob]).content_type == ""
    assert await Blob("a\r\nb", endings=BlobEnding.NATIVE).text() == "a\nb"
    assert await blob.stream().read_all() == b"test!?"
    with pytest.raises(TypeError, match="Don't know how to handle"):
        Blob([5])


def test_file_has_a_name_and_a_time():
    file = File("my file", filename="test.txt", content_type="text/plain", last_modified=5)
    assert (file.name, file.content_type, file.last_modified) == ("test.txt", "text/plain", 5)
    copy = File(file, filename="b")
    assert (copy.content_type, copy.last_modified) == ("text/plain", 5)


def round_trip(entries):
    body, content_type = encode_multipart(entries)
    return decode_form(body, content_type)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.lists(st.tuples(TEXT.filter(lambda name: "%" not in name), TEXT | st.binary(max_size=60))))
def test_any_form_survives_multipart(fields):
    entries = [
        (name, value if isinstance(value, str) else File([value], 'a"b\r\n.bin', "x/y")) for name, value in fields
    ]
    back = round_trip(entries)
    assert [name for name, _ in back] == [name for name, _ in fields]
    for (_, value), (_, read) in zip(fields, back, strict=True):
        if isinstance(value, str):
            assert read == value
        else:
            assert (read.data, read.name, read.content_type) == (value, 'a"b\r\n.bin', "x/y")


@given(st.binary(max_size=200))
def test_any_bytes_as_multipart_give_fields_or_a_type_error(body):
    try:
        decode_form(b"--x" + body, 'multipart/form-data; boundary="x"')
    except TypeError:
        pass


def test_backslashes_and_quotes_in_names():
    assert round_trip([("a\\", "x"), ('\\"b', "y")]) == [("a\\", "x"), ('\\"b', "y")]
    curl = b'--b\r\nContent-Disposition: form-data; name="a\\"b"\r\n\r\nx\r\n--b--'
    assert decode_form(curl, "multipart/form-data; boundary=b") == [('a"b', "x")]


def test_a_boundary_inside_a_value_is_avoided():
    _, content_type = encode_multipart([("a", "b")])
    boundary = content_type.partition("boundary=")[2]
    (name, value), _ = round_trip([("a", f"x\r\n--{boundary}--"), ("b", "c")])
    assert (name, value) == ("a", f"x\r\n--{boundary}--")


def test_urlencoded_forms():
    assert decode_form(b"a=1+2&b=%C3%BC&a=", "application/x-www-form-urlencoded") == [
        ("a", "1 2"),
        ("b", "ü"),
        ("a", ""),
    ]


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"x", "text/plain", "Unrecognized Content-Type"),
        (b"x", "", "found 'none'"),
        (b"x", "multipart/form-data", "No boundary"),
        (b"x", "multipart/form-data; boundary=b", "initial boundary"),
        (
            b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx",
            "multipart/form-data; boundary=b",
            "final boundary",
        ),
        (b"--b\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=b", "blank line|Content-Disposition"),
    ],
)
def test_broken_forms_are_explained(body, content_type, message):
    with pytest.raises(TypeError, match=message):
        decode_form(body, content_type)


def test_the_number_of_fields_is_bounded():
    part = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    with pytest.raises(LimitExceeded):
        decode_form(part * (FORM_PARTS_MAX + 1) + b"--b--", "multipart/form-data; boundary=b")
    with pytest.raises(LimitExceeded):
        decode_form(b"&".join([b"a=1"] * (FORM_PARTS_MAX + 1)), "application/x-www-form-urlencoded")
