import enum
from datetime import UTC, datetime, timedelta, timezone

import pytest

from edge_runtime.compat.pyodide_ffi import to_js
from edge_runtime.promise import Promise
from edge_runtime.workers import Blob, Request, Response, python_from_rpc, python_to_rpc
from edge_runtime.workers.buffers import ArrayBuffer, DataView, Int16Array
from edge_runtime.workers.conversion import RpcStub, from_wire, to_wire
from edge_runtime.workers.js_date import JsDate
from edge_runtime.workers.js_object import JsException, jsnull
from edge_runtime.workers.js_values import JsArray, JsDict
from edge_runtime.workers.remote_errors import remote_error
from edge_runtime.workers.workflows import NonRetryableError


def crossed(value):
    return python_from_rpc(python_to_rpc(value))


@pytest.mark.parametrize(
    "value",
    [None, True, 42, 2**70, 1.25, "test", [1, [2, None]], {"a": {"b": None}}, {1, 2}, "", float("inf")],
)
def test_plain_values_arrive_as_they_were(value):
    assert crossed(value) == value


def test_dicts_arrive_with_attribute_access():
    arrived = crossed({"a": {"b": [{"c": 1}]}, 5: "x", True: "y"})
    assert type(arrived) is JsDict
    assert arrived.a.b[0].c == 1
    assert arrived["5"] == "x"
    assert arrived["true"] == "y"
    arrived.new = 1
    assert arrived["new"] == 1
    with pytest.raises(AttributeError):
        _ = arrived.absent


def test_what_arrives_is_a_copy():
    inner = [1]
    assert to_wire({"a": inner})["a"] is not inner


@pytest.mark.parametrize(
    "value",
    [b"abc", memoryview(b"abc"), ArrayBuffer(b"abc"), DataView(ArrayBuffer(b"abc")), to_js(b"abc")],
)
def test_binary_values_arrive_as_memoryview(value):
    arrived = crossed(value)
    assert isinstance(arrived, memoryview)
    assert bytes(arrived) == b"abc"


def test_typed_arrays_arrive_as_their_bytes():
    assert bytes(crossed(Int16Array.of("10", "24"))) == b"\x0a\0\x18\0"


def test_moments_arrive_as_naive_local_time_of_whole_milliseconds():
    moment = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert to_wire(moment) == datetime(2026, 5, 1, 10, 0, 0, 123000, tzinfo=UTC)
    arrived = crossed(moment)
    assert arrived.tzinfo is None
    assert arrived.astimezone(UTC) == to_wire(moment)
    now = datetime.now()
    assert abs(crossed(now) - now) < timedelta(milliseconds=1)
    assert crossed(JsDate.new(5)).astimezone(UTC) == datetime(1970, 1, 1, 0, 0, 0, 5000, tzinfo=UTC)


def test_integral_floats_arrive_as_int():
    assert type(crossed(2.0)) is int
    assert type(crossed(2.5)) is float
    assert type(crossed(1e300)) is float


def test_errors_arrive_as_exceptions_with_the_message():
    arrived = crossed(ValueError("message"))
    assert type(arrived) is Exception
    assert str(arrived) == "Error: message"


def test_objects_of_the_api_cross():
    request, response, blob = Request("http://x/"), Response("x"), Blob("x")
    assert crossed(request) is request
    assert crossed(response) is response
    assert crossed(blob) is blob
    assert crossed(request.js_object) is request


@pytest.mark.parametrize("value", [(1, 2, 3), bytearray(b"x"), [(1, 2)], {"test": (1,)}, Promise()])
def test_refused_types_are_type_errors_anywhere(value):
    with pytest.raises(TypeError, match=r"cannot be sent over RPC\."):
        to_wire(value)


@pytest.mark.parametrize("value", [object(), complex(1), range(3), int, [object()]])
def test_other_objects_are_data_clone_errors(value):
    with pytest.raises(JsException, match=r"^DataCloneError"):
        to_wire(value)


def test_to_js_is_harmless():
    assert crossed(to_js([1, {"a": (2,)}])) == [1, {"a": [2]}]
    assert crossed(jsnull) is None
    assert type(to_wire(JsArray([1]))) is list


def test_subclasses_of_plain_types_become_plain():
    class Colour(enum.StrEnum):
        RED = "red"

    class Number(enum.IntEnum):
        ONE = 1

    class Hidden(str):
        def __repr__(self):
            return "***"

    wired = to_wire([Colour.RED, Number.ONE, Hidden("x")])
    assert wired == ["red", 1, "x"]
    assert [type(item) for item in wired] == [str, int, str]


async def test_functions_arrive_as_stubs(event):
    counter = 0

    def increment(amount=0, options=None):
        nonlocal counter
        counter += amount
        return {"counter": counter, "options": options}

    async def script():
        stub = crossed(increment)
        assert isinstance(stub, RpcStub)
        assert callable(stub)
        assert bool(stub)
        assert isinstance(crossed(stub), RpcStub)
        with pytest.raises(TypeError, match="has no len"):
            len(stub)
        with pytest.raises(TypeError, match="not iterable"):
            list(stub)
        await stub(2)
        return await stub(1, by="x")

    assert await event.run(script) == {"counter": 3, "options": {"by": "x"}}


async def test_an_error_in_a_called_function_is_remote(event):
    def fail():
        raise ValueError("no")

    async def script():
        await crossed(fail)()

    with pytest.raises(ValueError, match="no") as caught:
        await event.run(script)
    assert caught.value.remote


def test_only_some_errors_keep_their_class():
    assert type(remote_error(NonRetryableError("x"))) is NonRetryableError
    assert type(remote_error(UnicodeError("x"))) is ValueError
    other = remote_error(KeyError("x"))
    assert isinstance(other, JsException)
    assert other.name == "PythonError"
    assert "KeyError: 'x'" in other.message


def test_from_wire_keeps_what_it_does_not_know():
    marker = object()
    assert from_wire(marker) is marker
