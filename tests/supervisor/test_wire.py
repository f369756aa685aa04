from __future__ import annotations

import array
import datetime
import os
import socket
import struct

import cbor2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.control import Connection, ForkIsolate, IsolateReady, Ping, Pong, Retire, ToSupervisor
from edge_runtime.errors import WireError
from edge_runtime.frames import FrameReader, decode_body, encode_frame
from edge_runtime.limits import FRAME_MAX
from edge_runtime.log_lines import Log, LogLine
from edge_runtime.wire import BlockingChannel, Channel


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def log_of(size: int) -> Log:
    return Log.of([LogLine(1, "fetch", "Default.fetch", "x" * size, "ok", 12, 1.5, "")])


@pytest.fixture
def pair():
    before = open_descriptors()
    left, right = socket.socketpair()
    yield left, right
    left.close()
    right.close()
    assert open_descriptors() == before, "a descriptor leaked"


def test_messages_and_descriptors_arrive_as_sent(pair):
    left, right = pair
    sender, receiver = BlockingChannel(left), BlockingChannel(right)
    read_end, write_end = os.pipe()
    sender.send(Ping(1))
    sender.send(ForkIsolate(7), (write_end,))
    sender.send(Pong(1, 2, 3, 4, None, False))
    os.close(write_end)
    assert receiver.receive() == (Ping(1), ())
    message, (passed,) = receiver.receive()
    assert message == ForkIsolate(7)
    assert not os.get_inheritable(passed)
    os.write(passed, b"through")
    os.close(passed)
    assert os.read(read_end, 10) == b"through"
    os.close(read_end)
    assert receiver.receive() == (Pong(1, 2, 3, 4, None, False), ())
    left.close()
    assert receiver.receive() is None


def test_stream_that_ends_inside_a_frame_reads_as_its_end(pair):
    left, right = pair
    left.sendall(encode_frame(Ping(1))[:-1])
    left.close()
    assert BlockingChannel(right).receive() is None


def frame(body: bytes, descriptors: int = 0) -> bytes:
    return struct.pack(">IB", len(body), descriptors) + body


PING = {"type": "ping", "number": 1}


@pytest.mark.parametrize(
    "data",
    [
        frame(b""),
        frame(b"\xff"),
        frame(cbor2.dumps(PING) + b"\x00"),
        frame(cbor2.dumps({**PING, "number": "1"})),
        frame(cbor2.dumps({**PING, "number": 2**80})),
        frame(cbor2.dumps({"type": "nothing_of_ours"})),
        frame(cbor2.dumps({**PING, "number": datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)})),
        frame(cbor2.dumps(cbor2.CBORTag(35, "(a+)+$"))),
        frame(cbor2.dumps(cbor2.CBORTag(123456, 1))),
        frame(b"\xbf\xff"),
        frame(b"\xa2\x61a\x01\x61a\x02"),
        frame(b"\x81" * 500 + b"\x00"),
        frame(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
        frame(cbor2.dumps({1: 2})),
        frame(cbor2.dumps([1])),
        frame(cbor2.dumps(PING), descriptors=1),
        struct.pack(">IB", FRAME_MAX + 1, 0),
    ],
)
def test_hostile_frames_are_refused_by_type(pair, data):
    left, right = pair
    left.sendall(data)
    with pytest.raises(WireError):
        BlockingChannel(right).receive()


def test_message_of_another_direction_is_refused(pair):
    left, right = pair
    BlockingChannel(left).send(Ping(1))
    with pytest.raises(WireError):
        BlockingChannel(right, ToSupervisor).receive()


def test_descriptors_that_no_frame_announced_are_closed(pair):
    left, right = pair
    socket.send_fds(left, [encode_frame(Ping(1))], [0, 1])
    channel = BlockingChannel(right)
    assert channel.receive() == (Ping(1), ())
    with pytest.raises(WireError):
        channel.receive()


def test_descriptors_of_a_refused_frame_are_closed(pair):
    left, right = pair
    left.sendmsg([frame(b"\xff", 2)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]))])
    with pytest.raises(WireError):
        BlockingChannel(right).receive()


def test_too_many_descriptors_are_refused_and_closed(pair):
    left, right = pair
    socket.send_fds(left, [frame(cbor2.dumps(PING), 40)], [0] * 40)
    with pytest.raises(WireError):
        BlockingChannel(right).receive()


def test_oversized_message_is_refused_before_anything_is_sent(pair):
    left, _ = pair
    with pytest.raises(WireError):
        BlockingChannel(left).send(log_of(FRAME_MAX))


@given(st.binary(max_size=200))
def test_any_body_is_a_message_or_a_wire_error(body):
    try:
        decode_body(body)
    except WireError:
        pass


@given(st.lists(st.integers(0, 2**60), max_size=5), st.data())
def test_frames_survive_any_cut_of_the_stream(numbers, data):
    stream = b"".join(encode_frame(Ping(number)) for number in numbers)
    reader = FrameReader()
    received = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        reader.feed(stream[:cut], [], 0)
        stream = stream[cut:]
        while (got := reader.next_frame()) is not None:
            received.append(got[0].number)
    assert received == numbers


async def test_channel_exchanges_messages_with_a_blocking_peer(pair):
    left, right = pair
    channel, peer = Channel(left), BlockingChannel(right)
    await channel.send(Connection(), (0,))
    message, fds = peer.receive()
    assert message == Connection()
    os.close(fds[0])
    peer.send(IsolateReady(), (0,))
    message, fds = await channel.receive()
    assert message == IsolateReady()
    os.close(fds[0])
    right.close()
    assert await channel.receive() is None
    with pytest.raises(trio.BrokenResourceError):
        await channel.send(Ping(1))
    assert channel.send_soon(Ping(1)) is False


async def test_many_senders_do_not_mix_their_frames(pair):
    left, right = pair
    sender, receiver = Channel(left), Channel(right)
    got = []

    async def send(number):
        await sender.send(log_of(number))
        await sender.send(Ping(number), (0,))

    async def receive():
        while len(got) < 20:
            message, fds = await receiver.receive()
            for fd in fds:
                os.close(fd)
            if isinstance(message, Ping):
                assert len(fds) == 1
                got.append(message.number)

    sizes = [i * 50_000 for i in range(20)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        for size in sizes:
            nursery.start_soon(send, size)
    assert sorted(got) == sizes


async def test_cancelled_send_leaves_the_stream_whole(pair):
    left, right = pair
    sender, receiver = Channel(left), Channel(right)
    with trio.move_on_after(0.01) as scope:
        await sender.send(log_of(2_000_000))
    assert scope.cancelled_caught
    got = []

    async def receive():
        while not got or not isinstance(got[-1], Ping):
            got.append((await receiver.receive())[0])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await sender.send(Ping(5))
    assert got == [log_of(2_000_000), Ping(5)]


async def test_send_soon_never_blocks_and_counts_what_it_drops(pair):
    left, right = pair
    sender, receiver = Channel(left), Channel(right)
    accepted = 0
    for _ in range(100):
        accepted += sender.send_soon(log_of(50_000))
    assert 0 < accepted < 100
    assert sender.dropped == 100 - accepted
    got = 0

    async def receive():
        nonlocal got
        while (await receiver.receive())[0] != Retire(1.0):
            got += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await sender.send(Retire(1.0))
    assert got == accepted


async def test_closing_wakes_the_receiver(pair):
    left, _ = pair
    channel = Channel(left)
    async with trio.open_nursery() as nursery:

        async def close():
            await trio.testing.wait_all_tasks_blocked()
            channel.close()

        nursery.start_soon(close)
        with pytest.raises(trio.ClosedResourceError):
            await channel.receive()
    with pytest.raises(trio.ClosedResourceError):
        await channel.send(Ping(1))
