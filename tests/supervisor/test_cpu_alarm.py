"""The alarm that rings when another process has used some CPU time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import trio

from edge_runtime.process_cpu import process_cpu_ns
from edge_runtime.supervisor.cpu_alarm import CpuAlarm, follow_cpu_alarms

FAR_S = 3600.0
BURN = "import sys\nsys.stdin.readline()\nwhile True: pass"


@pytest.fixture
def burner() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-S", "-c", BURN], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


async def test_rings_when_the_process_has_used_so_much(burner: subprocess.Popen[bytes]) -> None:
    alarm = CpuAlarm(burner.pid)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_cpu_alarms)
        await trio.testing.wait_all_tasks_blocked()
        before_ns = process_cpu_ns(burner.pid)
        assert burner.stdin is not None
        burner.stdin.write(b"\n")
        burner.stdin.flush()
        await alarm.sleep(FAR_S, 0.05)
        assert process_cpu_ns(burner.pid) - before_ns >= 50_000_000
        await alarm.sleep(FAR_S, 0.05)
        assert process_cpu_ns(burner.pid) - before_ns >= 100_000_000
        nursery.cancel_scope.cancel()
    alarm.close()


@pytest.mark.parametrize("followed", [True, False])
async def test_who_waits_for_what_is_not_used_goes_on_in_time(
    burner: subprocess.Popen[bytes], followed: bool, autojump_clock: trio.testing.MockClock
) -> None:
    alarm = CpuAlarm(burner.pid)
    async with trio.open_nursery() as nursery:
        if followed:
            nursery.start_soon(follow_cpu_alarms)
            await trio.testing.wait_all_tasks_blocked()
        await alarm.sleep(5.0, FAR_S)
        assert trio.current_time() == 5.0
        nursery.cancel_scope.cancel()
    alarm.close()


async def test_process_that_has_ended_is_waited_for_no_longer_and_no_shorter(
    burner: subprocess.Popen[bytes], autojump_clock: trio.testing.MockClock
) -> None:
    alarm = CpuAlarm(burner.pid)
    burner.kill()
    burner.wait()
    await alarm.sleep(5.0, 0.0)
    assert trio.current_time() == 5.0
    alarm.close()
    CpuAlarm(burner.pid).close()
