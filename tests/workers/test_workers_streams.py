import asyncio

import pytest
import sniffio
import trio
import trio.lowlevel

from edge_runtime.workers import Response
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workers.transform_stream import FixedLengthStream, TransformStream, WritableStream


async def pause():
    if sniffio.thread_local.name == "asyncio":
        await asyncio.sleep(0)
    else:
        await trio.lowlevel.checkpoint()


async def numbers(log=None):
    try:
        for number in range(3):
            await pause()
            yield f"{number}\n"
    finally:
        if log is not None:
            log.append("closed")


def waiting_receive(*pieces):
    left = list(pieces)

    async def receive():
        await trio.lowlevel.checkpoint()
        return left.pop(0) if left else None

    return receive


async def collected(response):
    pieces = []

    async def write(piece):
        await trio.lowlevel.checkpoint()
        pieces.append(piece)

    await response._outgoing().body.write_to(write)
    return pieces


async def test_async_generator_is_sent_piece_by_piece(event):
    async def handler():
        return Response(numbers())

    assert await collected(await event.run(handler)) == [b"0\n", b"1\n", b"2\n"]


async def test_script_reads_what_the_runtime_receives(event):
    async def script():
        stream = ReadableStream.of_receive(waiting_receive(b"ab", b"cd"))
        reader = stream.getReader()
        first = await reader.read()
        assert (first.done, first.value.to_bytes(), first["value"].byteLength) == (False, b"ab", 2)
        assert stream.locked
        with pytest.raises(TypeError, match="locked"):
            stream.getReader()
        reader.releaseLock()
        rest = [bytes(piece) async for piece in stream]
        return rest, await stream.getReader().read()

    rest, last = await event.run(script)
    assert rest == [b"cd"]
    assert (last.done, last.value) == (True, None)


async def test_error_of_a_generator_reaches_the_sender_after_its_pieces(event):
    async def broken():
        yield b"a"
        await pause()
        raise RuntimeError("broken off")

    async def handler():
        return Response(broken())

    response = await event.run(handler)
    pieces = []

    async def write(piece):
        pieces.append(piece)

    with pytest.raises(RuntimeError, match="broken off"):
        await response._outgoing().body.write_to(write)
    assert pieces == [b"a"]


async def test_generator_is_closed_when_its_reader_goes_away(event):
    log = []

    async def handler():
        return Response(numbers(log))

    response = await event.run(handler)

    async def write(piece):
        raise trio.BrokenResourceError

    with pytest.raises(trio.BrokenResourceError):
        await response._outgoing().body.write_to(write)
    assert log == ["closed"]


async def test_both_branches_of_a_tee_give_every_piece(event):
    async def script():
        one, two = ReadableStream.of_receive(waiting_receive(b"a", b"b", b"c")).tee()
        first = await one.getReader().read()
        return first.value, await two.read_all(), await one.read_all()

    assert await event.run(script) == (b"a", b"abc", b"bc")


async def test_branches_read_at_the_same_time_share_the_source():
    one, two = ReadableStream.of_receive(waiting_receive(b"a", b"b", b"c")).tee()
    results = []

    async def read(branch):
        results.append(await branch.read_all())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, one)
        nursery.start_soon(read, two)
    assert results == [b"abc", b"abc"]


async def test_cancel_closes_the_source(event):
    async def script():
        log = []
        stream = ReadableStream(numbers(log))
        assert await anext(aiter(stream)) == "0\n"
        await stream.discard()
        return log, await stream.next_piece()

    assert await event.run(script) == (["closed"], None)


async def test_a_piece_that_is_neither_bytes_nor_text_is_refused(event):
    async def wrong():
        yield 5

    async def handler():
        return Response(wrong())

    with pytest.raises(TypeError, match="bytes or text, not int"):
        await collected(await event.run(handler))


async def test_transform_stream_hands_over_what_is_written(event):
    async def handler():
        stream = TransformStream.new()
        writer = stream.writable.getWriter()

        async def produce():
            for word in ("a", "b"):
                await writer.write(word)
            await writer.close()

        event.wait_until(produce())
        return Response(stream.readable)

    assert b"".join(await collected(await event.run(handler))) == b"ab"


async def test_pipe_through_a_transformer(event):
    async def handler():
        upper = TransformStream.new(transform=lambda piece, controller: controller.enqueue(piece.upper()))
        return Response(ReadableStream(numbers()).pipeThrough(upper))

    assert b"".join(await collected(await event.run(handler))) == b"0\n1\n2\n"


async def test_underlying_source_with_a_controller(event):
    async def script():
        left = [b"a", b"b"]

        def pull(controller):
            if left:
                controller.enqueue(left.pop(0))
            else:
                controller.close()

        return await Response(ReadableStream.new(pull=pull)).text()

    assert await event.run(script) == "ab"


async def test_writable_stream_passes_pieces_to_its_sink():
    written = []
    stream = WritableStream.new(write=written.append, close=lambda: written.append("closed"))
    await ReadableStream.of_bytes(b"x").pipeTo(stream)
    assert written == [b"x", "closed"]
    with pytest.raises(TypeError, match="closed"):
        await stream.perform("write", b"y")


async def test_fixed_length_stream_counts(event):
    async def script():
        stream = FixedLengthStream.new(3)
        writer = stream.writable.getWriter()
        with pytest.raises(TypeError, match="too many bytes"):
            await writer.write(b"abcd")
        event.wait_until(writer.write(b"ab"))
        assert (await stream.readable.getReader().read()).value == b"ab"
        with pytest.raises(TypeError, match="all expected bytes"):
            await writer.close()

    await event.run(script)
