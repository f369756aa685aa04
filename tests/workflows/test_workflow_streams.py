"""Streams as results of steps: read again at every replay, larger than other results, gone with the instance."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
import trio
from workflow_world import WORKER, WORKFLOW, World, flow, open_world

from edge_runtime.store.api import Table
from edge_runtime.workers.response import Response
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workflows.control.describe import REDACTED
from edge_runtime.workflows.stored import instances, streams

PIECE = 256 * 1024


def chunks(*sizes: int) -> ReadableStream:
    async def give() -> Any:
        for number, size in enumerate(sizes):
            yield bytes([number]) * size

    return ReadableStream(give())


async def read(stream: ReadableStream) -> list[Any]:
    data = b"".join([bytes(piece) async for piece in stream])
    return [len(data), data[:1] + data[-1:]]


def stored(world: World) -> int:
    with world.store.snapshot() as snapshot:
        return len(list(snapshot.keys(Table.STREAMS)))


async def test_stream_is_the_same_at_first_and_at_replay_and_larger_than_other_results_may_be(
    autojump_clock: object,
) -> None:
    made = []

    async def run(event: Any, step: Any) -> Any:
        async def fetch() -> ReadableStream:
            made.append(1)
            return chunks(1, 2 * PIECE, 5 * PIECE)

        big = await step.do("big", fetch)
        assert isinstance(big, ReadableStream)
        found = [await read(big)]
        await step.sleep("nap", "1 day")
        empty = await step.do("empty", chunks)
        body = await step.do("body", lambda: Response("text").body)
        return [*found, await read(empty), await read(body)]

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled("one", "waiting")
        store = world.store.crash()
    async with open_world(flow(run), store) as world:
        status = await world.settled()
        assert status["status"] == "complete", status["error"]
        assert [list(pair) for pair in status["output"]] == [[7 * PIECE + 1, b"\0\2"], [0, b""], [4, b"tt"]]
        assert made == [1]
        assert [step.output for step in world.describe().steps] == [
            "\0" + "\1" * 1023 + "[truncated output]",
            None,
            "",
            "text",
        ]
        assert stored(world) == 9

        async def delete() -> None:
            await (await world.namespace.get("one")).delete()

        await world.handler(delete)
        assert stored(world) == 0


async def test_stream_that_breaks_off_leaves_nothing_and_is_made_again(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> Any:
        async def fetch(ctx: Any) -> ReadableStream:
            async def give() -> Any:
                for _ in range(3):
                    yield b"x" * PIECE
                if ctx["attempt"] < 2:
                    raise OSError("cut off")

            return ReadableStream(give())

        return (await read(await step.do("fetch", fetch)))[0]

    async with open_world(flow(run)) as world:
        await world.create()
        await world.settled("one", "waiting")
        assert stored(world) == 0
        assert (await world.settled())["output"] == 3 * PIECE
        assert stored(world) == 3


async def test_restart_from_a_step_keeps_the_streams_of_those_before(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> Any:
        first = await step.do("first", lambda: chunks(PIECE))
        second = await step.do("second", lambda: chunks(PIECE, PIECE))
        return [(await read(first))[0], (await read(second))[0]]

    async with open_world(flow(run)) as world:
        await world.create()
        assert list((await world.settled())["output"]) == [PIECE, 2 * PIECE]
        assert stored(world) == 3

        async def restart() -> None:
            await (await world.namespace.get("one")).restart({"from": {"name": "second"}})

        await world.handler(restart)
        await world.settled("one", "complete")
        assert list((await world.settled())["output"]) == [PIECE, 2 * PIECE]
        assert stored(world) == 3


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: locked(), 'the step "stream" returned an invalid ReadableStream output. Step returned a Readable'),
        (lambda: of_numbers(), "unsupported chunk type: a stream used as a body must give bytes or text, not int"),
        (lambda: chunks(4, 5000), "chunk larger than the maximum allowed size of 4000 bytes: it has 5000"),
        (lambda: chunks(*[4000] * 200), "The instance has exceeded the 1GiB storage limit"),
    ],
)
async def test_stream_that_cannot_be_kept_ends_the_instance(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, make: Any, text: str
) -> None:
    monkeypatch.setattr(streams, "STEP_STREAM_CHUNK_MAX", 4000)
    monkeypatch.setattr(streams, "INSTANCE_STREAMS_MAX", 500_000)

    async def run(event: Any, step: Any) -> Any:
        try:
            await step.do("stream", make)
        except Exception:
            return "caught"

    async with open_world(flow(run)) as world:
        await world.create()
        status = await world.settled()
        assert status["status"] == "errored"
        assert status["error"]["name"] == "WorkflowFatalError"
        assert text in status["error"]["message"]
        assert stored(world) == 0
        with world.store.snapshot() as snapshot:
            assert instances.read(snapshot, instances.address_of(WORKER, WORKFLOW, "one")) is not None


@pytest.mark.parametrize("id", ["one", "0198b0c5-1111-7222-8333-444455556666"], ids=["a name", "a UUID"])
async def test_streams_of_an_instance_are_counted_together_and_end_with_it_whatever_its_id(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, id: str
) -> None:
    monkeypatch.setattr(streams, "INSTANCE_STREAMS_MAX", 2 * PIECE)

    async def run(event: Any, step: Any) -> Any:
        await step.do("first", lambda: chunks(PIECE))
        await step.do("second", lambda: chunks(PIECE))
        if event.payload == "more":
            await step.do("third", lambda: chunks(PIECE))

    async with open_world(flow(run)) as world:
        await world.create(id, "more")
        ended = await world.settled(id)
        assert "exceeded the 1GiB storage limit" in ended["error"]["message"]
        assert stored(world) == 2

        async def restart() -> None:
            await (await world.namespace.get(id)).restart()

        async def delete() -> None:
            await (await world.namespace.get(id)).delete()

        await world.handler(restart)
        await world.settled(id, "errored")
        assert "exceeded" in (await world.settled(id))["error"]["message"]
        assert stored(world) == 2
        await world.handler(delete)
        await trio.sleep(1)
        assert stored(world) == 0


@pytest.mark.parametrize(
    ("pieces", "sensitive", "shown"),
    [
        (["hello ", "grüße"], False, "hello grüße"),
        ([b"A" * 2048], False, "A" * 1024 + "[truncated output]"),
        (["ü" * 1024], False, "ü" * 1024),
        (["ü" * 3 * PIECE], False, "ü" * 1024 + "[truncated output]"),
        ([b"\xff\xfe\x80\x81"], False, "[ReadableStream (binary): 4 bytes]"),
        ([b"cut in two: \xc3"], False, "[ReadableStream (binary): 13 bytes]"),
        (["streamed secret"], True, REDACTED),
    ],
)
async def test_stream_is_shown_by_the_beginning_of_its_text(
    autojump_clock: object, pieces: list[Any], sensitive: bool, shown: str
) -> None:
    async def run(event: Any, step: Any) -> Any:
        async def give() -> Any:
            for piece in pieces:
                yield piece

        config = {"sensitive": "output"} if sensitive else {}
        return (await read(await step.do("stream", config, lambda: ReadableStream(give()))))[0]

    async with open_world(flow(run)) as world:
        await world.create()
        size = sum(len(piece.encode() if isinstance(piece, str) else piece) for piece in pieces)
        assert (await world.settled())["output"] == size
        assert world.describe().steps[0].output == shown


async def test_pieces_of_any_binary_type_are_kept_as_their_bytes(autojump_clock: object) -> None:
    numbers = array("h", [1, 2, 3, 256, -1])

    async def run(event: Any, step: Any) -> Any:
        async def give() -> Any:
            yield memoryview(numbers)
            yield bytearray(b"ab")
            yield memoryview(b"c")

        stream = await step.do("typed", lambda: ReadableStream(give()))
        return b"".join([bytes(piece) async for piece in stream])

    async with open_world(flow(run)) as world:
        await world.create()
        assert (await world.settled())["output"] == numbers.tobytes() + b"abc"


async def test_stream_that_takes_longer_than_the_step_may_is_cut_off(autojump_clock: object) -> None:
    async def run(event: Any, step: Any) -> Any:
        async def fetch() -> ReadableStream:
            async def give() -> Any:
                yield b"x" * PIECE
                await trio.sleep(100)
                yield b"late"

            return ReadableStream(give())

        return await step.do("fetch", {"retries": {"limit": 0, "delay": 1}, "timeout": 5000}, fetch)

    async with open_world(flow(run)) as world:
        await world.create()
        assert (await world.settled())["error"]["name"] == "WorkflowTimeoutError"
        assert stored(world) == 0


def of_numbers() -> ReadableStream:
    async def give() -> Any:
        yield 1

    return ReadableStream(give())


def locked() -> ReadableStream:
    stream = chunks(1)
    stream.getReader()
    return stream
