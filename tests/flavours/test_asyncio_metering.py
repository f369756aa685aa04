"""Scripts of asyncio's flavour run as their event, and are charged to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import trio
from asyncio_events import an_event, burn
from edge_process import PATIENCE_S

from edge_runtime.event import EventContext, EventKind, current_event
from edge_runtime.isolate.asyncio_flavour import AsyncioFlavour, open_asyncio_flavour
from edge_runtime.metering.child_tasks import ChildTaskMeter
from edge_runtime.metering.meter import user_meter


async def test_event_and_meter_are_visible_in_the_script_and_its_tasks() -> None:
    async with an_event() as event:

        async def look() -> tuple[object, object]:
            return current_event.get(), user_meter.get()

        async def handler() -> list[tuple[object, object]]:
            inner = await asyncio.create_task(look())
            return [await look(), inner, *await asyncio.gather(look())]

        assert await event.run(handler) == [(event, event.meter)] * 3
        assert current_event.get() is None


async def test_events_side_by_side_keep_their_contexts_apart() -> None:
    async with open_asyncio_flavour() as flavour, trio.open_nursery() as nursery:
        seen: dict[str, object] = {}

        async def handler(name: str) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                event = current_event.get()
                assert event is not None
                assert event.name == name
            seen[name] = True

        async def deliver(name: str) -> None:
            await EventContext(EventKind.FETCH, name, nursery, flavour).run(handler, name)

        async with trio.open_nursery() as deliveries:
            for number in range(5):
                deliveries.start_soon(deliver, str(number))
        assert len(seen) == 5


async def test_flavour_works_in_a_task_begun_outside_of_its_scope() -> None:
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[AsyncioFlavour](0)
        got: list[str] = []
        over = trio.Event()

        async def outside() -> None:
            flavour = await receive.receive()
            got.append(await flavour.run(asyncio.sleep(0, "ran")))
            over.set()

        nursery.start_soon(outside)
        async with open_asyncio_flavour() as flavour:
            await send.send(flavour)
            with trio.fail_after(PATIENCE_S):
                await over.wait()
    assert got == ["ran"]


BURN_S = 0.1


async def _burn_here() -> None:
    burn(BURN_S)


async def _burn_after_waiting() -> None:
    await asyncio.sleep(0.001)
    burn(BURN_S)


async def _burn_in_a_task() -> None:
    await asyncio.create_task(_burn_after_waiting())


async def _burn_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(asyncio.to_thread(burn, BURN_S / 2))


async def _burn_in_gather() -> None:
    async def half() -> None:
        await asyncio.sleep(0)
        burn(BURN_S / 2)

    await asyncio.gather(half(), half())


async def _burn_in_a_callback() -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(burn, BURN_S / 2)
    loop.call_later(0.001, burn, BURN_S / 2)
    await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    "script",
    [_burn_here, _burn_after_waiting, _burn_in_a_task, _burn_in_a_group, _burn_in_gather, _burn_in_a_callback],
)
@pytest.mark.usefixtures("no_collection")
def test_cpu_time_is_charged_to_the_event_and_to_no_other(script: Callable[[], Awaitable[None]]) -> None:
    async def main() -> tuple[int, int]:
        async with open_asyncio_flavour() as flavour, trio.open_nursery() as nursery:
            busy = EventContext(EventKind.FETCH, "busy", nursery, flavour)
            idle = EventContext(EventKind.FETCH, "idle", nursery, flavour)

            async def wait() -> None:
                await asyncio.sleep(0.01)

            async with trio.open_nursery() as deliveries:
                deliveries.start_soon(idle.run, wait)
                deliveries.start_soon(busy.run, script)
            return busy.meter.cpu_us, idle.meter.cpu_us

    busy_us, idle_us = trio.run(main, instruments=[ChildTaskMeter()])
    # What is around it takes longer on a slow machine, but not as long again.
    assert 0.95 * BURN_S * 1e6 <= busy_us <= 1.7 * BURN_S * 1e6
    assert idle_us < BURN_S * 1e6 / 2
