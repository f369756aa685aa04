"""The link between two isolates: order, streams and their windows, what goes by reference, hostile frames."""

import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import cbor2
import pytest
import trio
from edge_process import PATIENCE_S

from bindings.durable_objects.messages import FetchCall, RpcCall
from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.errors import ActorBroken, ConnectionLost, UsageError
from edge_runtime.event import EventContext, EventKind
from edge_runtime.frames import encode_frame
from edge_runtime.isolate.peers.frames import (
    Body,
    CallMethod,
    CallStub,
    Moved,
    Packed,
    Piece,
    Reference,
    Responded,
    ResponseHead,
    Returned,
    SocketClosed,
    SocketMessage,
    StreamCredit,
    StreamEnded,
    StubReleased,
)
from edge_runtime.isolate.peers.link import PeerLink, open_channel
from edge_runtime.isolate.peers.made_calls import MovedAway
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.limits import PEER_WINDOW
from edge_runtime.promise import Promise
from edge_runtime.store import values
from edge_runtime.workers.blob import File
from edge_runtime.workers.conversion import RpcStub, to_wire
from edge_runtime.workers.formdata import FormData
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import Response
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_link import pipe
from edge_runtime.workers.websocket_recipient import SocketFlags

FLAGS = SocketFlags()
ADDRESS = ActorAddress("shop", ActorKind.OBJECT, "Cart", "ab" * 32)


class Answers:
    """Answers calls by a function of the message; keeps what came."""

    def __init__(self, answer=lambda message: Promise.resolved(None)):
        self.calls = []
        self._answer = answer

    def received(self, address, message, name, view, identity):
        self.calls.append((address, message, name, view, *([] if identity is None else [identity])))
        return self._answer(message)


def echo(message):
    return Promise.resolved(message.args)


@asynccontextmanager
async def linked(answer=echo):
    """`ours`, a link to `theirs`, which answers; and the nursery they run in."""
    one, two = socket.socketpair()
    async with trio.open_nursery() as nursery:
        answers = Answers(answer)
        ours = PeerLink(open_channel(one.detach()), Answers(), nursery, FLAGS)
        theirs = PeerLink(open_channel(two.detach()), answers, nursery, FLAGS)
        for link in (ours, theirs):
            nursery.start_soon(link.run)
        with trio.fail_after(PATIENCE_S):
            yield ours, theirs, answers, nursery
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def against_bytes(answer=echo):
    """A link whose other side is a bare socket."""
    one, two = socket.socketpair()
    two.setblocking(False)
    raw = trio.socket.from_stdlib_socket(two)
    async with trio.open_nursery() as nursery:
        link = PeerLink(open_channel(one.detach()), Answers(answer), nursery, FLAGS)
        nursery.start_soon(link.run)
        with raw, trio.fail_after(PATIENCE_S):
            yield link, raw
        nursery.cancel_scope.cancel()


async def call(link, *args, method="m"):
    return await link.call(ADDRESS, RpcCall(method, [to_wire(arg) for arg in args]), "name", 7)


async def test_calls_arrive_in_order_with_all_that_they_carry():
    async with linked() as (ours, _, answers, _nursery):
        replies = [ours.call(ADDRESS, RpcCall(f"m{n}", [n]), "name", 7) for n in range(100)]
        assert [await reply for reply in replies] == [[n] for n in range(100)]
        assert [message.method for _, message, _, _ in answers.calls] == [f"m{n}" for n in range(100)]
        assert answers.calls[0][0] == ADDRESS
        assert answers.calls[0][2:] == ("name", 7)


async def test_calls_to_an_isolate_that_does_not_read_are_refused_and_the_link_stays():
    large = b"x" * (30 << 20)
    async with against_bytes() as (link, raw):
        replies = [link.call(ADDRESS, RpcCall("m", [large]), None, 7) for _ in range(5)]
        refused = [reply.error for reply in replies if reply.settled]
        assert [str(error) for error in refused] == ["Durable Object is overloaded. Too much data queued."] * 2
        assert all(error.overloaded and not error.retryable for error in refused)
        read = 0
        while read < 3 * len(large):
            read += len(await raw.recv(1 << 20))
        assert not link.lost
        assert not link.call(ADDRESS, RpcCall("m", [1]), None, 7).settled


@pytest.mark.parametrize(
    "value",
    [None, True, 2**80, 1.5, "x", b"bytes", [1, {"a": {1, 2}}], datetime(2026, 5, 1, tzinfo=UTC), Decimal("1.10"), []],
)
async def test_values_arrive_as_they_were_sent(value):
    async with linked() as (ours, *_):
        assert await call(ours, value) == [value]


async def test_whole_objects_arrive_inside_values():
    async with linked() as (ours, *_):
        form = FormData({"a": "1", "f": File([b"data"], "n.txt", "text/plain", last_modified=5)})
        sent = {
            "request": Request("http://x/y", method="POST", body="body", cf={"colo": "here"}),
            "items": [Response("text", status=201), File([b"f"], "g.bin", "a/b", last_modified=9), form],
            "stream": ReadableStream.of_bytes(b"streamed"),
        }
        [back] = await call(ours, sent)
        assert (back["request"].url, await back["request"].text(), back["request"].cf.colo) == (
            "http://x/y",
            "body",
            "here",
        )
        response, file, form = back["items"]
        assert (response.status, await response.text()) == (201, "text")
        assert (file.name, file.content_type, file.data, file.last_modified) == ("g.bin", "a/b", b"f", 9)
        assert (form["a"], form["f"].data) == ("1", b"data")
        assert await back["stream"].read_all() == b"streamed"


@pytest.mark.parametrize(
    ("error", "kind", "flags"),
    [
        (TypeError("t"), TypeError, {}),
        (ValueError("v"), ValueError, {}),
        (UsageError("u"), UsageError, {}),
        (KeyError("k"), Exception, {}),
        (JsException("m", "RangeError"), JsException, {"name": "RangeError"}),
        (
            ActorBroken("b", retryable=False, overloaded=True),
            ActorBroken,
            {"overloaded": True, "durableObjectReset": True},
        ),
        (ConnectionLost(), ConnectionLost, {"retryable": True, "durableObjectReset": False}),
    ],
)
async def test_errors_arrive_with_class_and_flags(error, kind, flags):
    async with linked(lambda _: Promise.rejected(error)) as (ours, *_):
        with pytest.raises(kind) as caught:
            await call(ours)
        assert type(caught.value) is kind
        assert {name: getattr(caught.value, name) for name in flags} == flags


async def test_a_call_that_is_not_begun_says_by_which_view():
    async with linked(lambda _: Promise.rejected(MovedAway(9))) as (ours, *_):
        with pytest.raises(MovedAway) as caught:
            await call(ours)
        assert caught.value.view == 9


async def test_death_of_the_other_side_fails_calls_under_way_and_later_ones():
    async with linked(lambda _: Promise()) as (ours, theirs, _, _nursery):
        reply = ours.call(ADDRESS, RpcCall("m", []), None, 1)
        await trio.testing.wait_all_tasks_blocked()
        theirs._channel.close()
        with pytest.raises(ConnectionLost, match=r"Network connection lost\."):
            await reply
        with pytest.raises(ConnectionLost):
            await call(ours)


def body_of(pieces, taken):
    async def generate():
        for piece in pieces:
            taken.append(len(piece))
            yield piece

    return generate()


async def test_a_slow_reader_holds_the_writer_at_the_window():
    taken = []
    pieces = [b"p" * 50_000] * 40
    async with linked(lambda _: Promise.resolved(Response(body_of(pieces, taken)))) as (ours, *_):
        response = await ours.call(ADDRESS, FetchCall(Request("http://x/")), None, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert sum(taken) <= PEER_WINDOW + 2 * 50_000
        assert len(await response._payload.stream.read_all()) == 2_000_000


async def test_a_stream_that_nobody_reads_any_more_is_cancelled_at_its_source():
    closed = trio.Event()

    async def generate():
        try:
            while True:
                yield b"x" * 60_000
        finally:
            closed.set()

    async with linked(lambda _: Promise.resolved(Response(generate()))) as (ours, *_):
        response = await ours.call(ADDRESS, FetchCall(Request("http://x/")), None, 1)
        await trio.testing.wait_all_tasks_blocked()
        del response
        await closed.wait()


async def test_a_failing_source_fails_the_reader():
    async def generate():
        yield b"x"
        raise RuntimeError("source broke")

    async with linked(lambda _: Promise.resolved(Response(generate()))) as (ours, *_):
        response = await ours.call(ADDRESS, FetchCall(Request("http://x/")), None, 1)
        with pytest.raises(JsException, match="source broke"):
            await response._payload.stream.read_all()


class Heard:
    def __init__(self):
        self.heard = []
        self.unhandled = []

    def message(self, data, handled):
        self.heard.append(data)
        self.unhandled.append(handled)

    def close(self, code, reason):
        self.heard.append((code, reason))

    def lost(self, error):
        self.heard.append(("lost", error))


def upgrade(end):
    return lambda _: Promise.resolved(Response(None, status=101, web_socket=WebSocket(end, FLAGS)))


async def open_socket(ours):
    response = await ours.call(ADDRESS, FetchCall(Request("http://x/")), None, 1)
    assert response.status == 101
    near = Heard()
    link = response.web_socket._link
    response.web_socket._receive_by(near)
    return link, near


async def test_websockets_pass_messages_both_ways_say_what_was_handled_and_close():
    outer, inner = pipe()
    far = Heard()
    inner.listen(far)
    async with linked(upgrade(outer)) as (ours, theirs, *_):
        link, near = await open_socket(ours)
        handled = []
        link.send("up", lambda: handled.append("up"))
        inner.send(b"down", lambda: handled.append("down"))
        await trio.testing.wait_all_tasks_blocked()
        assert (far.heard, near.heard, handled) == (["up"], [b"down"], [])
        far.unhandled[0]()
        near.unhandled[0]()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(handled) == ["down", "up"]
        link.close(4000, "bye")
        await trio.testing.wait_all_tasks_blocked()
        inner.close(4001, "too")
        await trio.testing.wait_all_tasks_blocked()
        assert (far.heard[1:], near.heard[1:]) == ([(4000, "bye")], [(4001, "too")])
        assert not ours._sockets._ends
        assert not theirs._sockets._ends


async def test_websockets_end_with_the_other_isolate():
    outer, inner = pipe()
    inner.listen(Heard())
    async with linked(upgrade(outer)) as (ours, theirs, *_):
        link, near = await open_socket(ours)
        handled = []
        link.send("up", lambda: handled.append("up"))
        theirs._channel.close()
        await trio.testing.wait_all_tasks_blocked()
        assert near.heard == [("lost", None)]
        assert handled == ["up"]


async def test_functions_are_called_back_in_their_own_event_and_released():
    async with linked(lambda _: Promise.resolved(None)) as (ours, _theirs, answers, nursery):
        owner = EventContext(EventKind.FETCH, "owner", nursery, TrioFlavour())
        holder = EventContext(EventKind.RPC, "holder", nursery, TrioFlavour())
        seen = []

        def function(number):
            seen.append(number)
            return number + 1

        async def lend():
            await ours.call(ADDRESS, RpcCall("m", [to_wire(function)]), None, 1)

        await owner.run(lend)
        [target] = answers.calls[0][1].args

        async def use():
            stub = RpcStub(target)
            return [await promise for promise in [stub(number) for number in range(20)]]

        assert await holder.run(use) == list(range(1, 21))
        assert seen == list(range(20))
        assert owner.has_open_work
        await holder.finish()
        await owner.finish()
        await trio.testing.wait_all_tasks_blocked()
        assert not owner.has_open_work


HOSTILE = {
    "not cbor": b"\xff\xff",
    "a number": cbor2.dumps(5),
    "an unknown frame": cbor2.dumps(["no_such", 1]),
    "too few fields": cbor2.dumps(["returned"]),
    "a wrong type": cbor2.dumps(["returned", "x", [b"", []]]),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
async def test_what_is_no_frame_closes_the_link(body):
    async with against_bytes() as (link, raw):
        reply = link.call(ADDRESS, RpcCall("m", []), None, 1)
        await raw.send(len(body).to_bytes(4, "big") + b"\0" + body)
        with pytest.raises(ConnectionLost):
            await reply
        assert link.lost


EMPTY = Packed(values.encode([]))
HEAD = (5, 1, "shop", ActorKind.OBJECT, "Cart", "ab" * 32, None)
OUT_OF_TURN = [
    Returned(99, EMPTY),
    Moved(99, 1),
    Returned(1, Packed(b"\x01garbage")),
    Returned(1, Packed(values.encode([1]), (Reference((0,), "stub", 1),))),
    Returned(1, Packed(values.encode({}), (Reference(("a", "b"), "blob"),))),
    Returned(1, Packed(values.encode([None]), (Reference((0,), "request"),))),
    Responded(1, ResponseHead(200, "", "", False, (), Body(stream=3))),
    Piece(5, b"x"),
    StreamEnded(5, None),
    StubReleased(5),
    SocketMessage(1, True, b"x", None),
    SocketClosed(1, False, 1000, ""),
    CallStub(1, 5, None, EMPTY),
    CallMethod(*HEAD, method="m", args=Packed(values.encode({"not": "a list"}))),
    CallMethod(*HEAD[:3], ActorKind.CRON, *HEAD[4:], method="m", args=EMPTY),
    CallMethod(*HEAD[:5], "../../etc", None, method="m", args=EMPTY),
]


@pytest.mark.parametrize("hostile", OUT_OF_TURN, ids=lambda it: f"{type(it).__name__}")
async def test_frames_out_of_turn_close_the_link(hostile):
    async with against_bytes(lambda _: Promise()) as (link, raw):
        reply = link.call(ADDRESS, RpcCall("m", []), None, 1)
        if isinstance(hostile, Responded):
            # The same stream announced twice.
            second = link.call(ADDRESS, RpcCall("m", []), None, 1)
            await raw.send(encode_frame(hostile) + encode_frame(Responded(2, hostile.response)))
            await reply
            reply = second
        else:
            await raw.send(encode_frame(hostile))
        with pytest.raises(ConnectionLost):
            await reply


async def test_more_than_the_window_closes_the_link_and_too_much_credit_is_no_harm():
    async with against_bytes() as (link, raw):
        reply = link.call(ADDRESS, RpcCall("m", []), None, 1)
        head = ResponseHead(200, "", "", False, (), Body(stream=1))
        await raw.send(encode_frame(StreamCredit(1, 10**12)) + encode_frame(Responded(1, head)))
        stream = (await reply)._payload.stream
        sending = trio.SocketStream(raw)
        too_much = encode_frame(Piece(1, b"x" * 60_000)) * 20
        with pytest.raises(trio.BrokenResourceError):
            await sending.send_all(too_much)
        with pytest.raises(JsException, match="Network connection lost"):
            await stream.read_all()


async def test_too_large_arguments_and_what_cannot_be_sent_are_refused_at_the_caller():
    async with linked() as (ours, *_):
        with pytest.raises(JsException, match="limited to 32MiB"):
            await ours.call(ADDRESS, RpcCall("m", [b"x" * (33 << 20)]), None, 1)
        with pytest.raises(JsException, match="Could not serialize"):
            await ours.call(ADDRESS, RpcCall("m", [[object()]]), None, 1)
        assert await call(ours, "still there") == ["still there"]
