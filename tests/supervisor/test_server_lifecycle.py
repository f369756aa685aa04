from __future__ import annotations

import os
import signal
import socket

import pytest
import trio
from edge_process import PATIENCE_S, replace_text
from fake_isolates import HELLO, RecordingReport, alive, exists, parent_of, write_worker

from edge_runtime.errors import ConfigError, DataDirectoryInUse, UsageError
from edge_runtime.supervisor import backoff, template_handle
from edge_runtime.supervisor.data_dir import DataDirectory
from edge_runtime.supervisor.server import ServerOptions, run_server


def descriptors():
    return sorted(os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _open(name))


def _open(name):
    return os.path.lexists(f"/proc/self/fd/{name}")


async def isolate_pid(server, host="localhost"):
    return int((await server.get("/pid", host))[1])


async def test_connection_is_served_by_an_isolate_in_a_process_of_its_own(serve, tmp_path):
    async with serve(write_worker(tmp_path / "w", HELLO)) as server:
        assert await server.get("/there") == (200, "hello /there")
        pid = await isolate_pid(server)
        assert pid != os.getpid()
        assert os.getpgid(pid) == pid
    assert server.exit_code == 0
    assert not alive(pid)


async def test_end_leaves_no_process_and_no_descriptor(serve, zygote, tmp_path):
    before = descriptors()
    async with serve(write_worker(tmp_path / "w", HELLO)) as server:
        pid = await isolate_pid(server)
        template = parent_of(pid)
    assert not alive(pid)
    assert not exists(template)
    assert not exists(zygote.pid)
    after = descriptors()
    # The zygote's pidfd and socket were open before.
    assert len(after) <= len(before) - 2


async def test_end_does_not_wait_for_clients_that_hang_or_do_not_read(serve, tmp_path):
    streams = []
    with trio.fail_after(PATIENCE_S):
        async with serve(write_worker(tmp_path / "w", HELLO), grace_s=0.1) as server:
            for path in ("/hang", "/flood", ""):
                stream = await server.connect()
                streams.append(stream)
                if path:
                    await stream.send_all(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            await server.get("/")
    assert server.exit_code == 0
    for stream in streams:
        await stream.aclose()


async def test_second_signal_ends_without_grace(serve, tmp_path):
    with trio.fail_after(PATIENCE_S):
        async with serve(write_worker(tmp_path / "w", HELLO), grace_s=3 * PATIENCE_S) as server:
            stream = await server.connect()
            await stream.send_all(b"GET /hang HTTP/1.1\r\n\r\n")
            pid = await isolate_pid(server)
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert not alive(pid)
    await stream.aclose()


async def test_draining_lets_requests_in_progress_finish(serve, tmp_path):
    script = "import trio\ndef handle(path):\n    return 'done'\n"
    async with serve(write_worker(tmp_path / "w", script), grace_s=PATIENCE_S) as server:
        stream = await server.connect()
        await stream.send_all(b"GET / HTTP/1.1\r\n")
        await server.get("/")
        os.kill(os.getpid(), signal.SIGINT)
        await trio.sleep(0.05)
        await stream.send_all(b"\r\n")
        answer = b"".join([data async for data in stream])
        assert answer.endswith(b"done")
        # So that leaving the context does not send the second signal.
        while server.exit_code is None:
            await trio.sleep(0.01)
    assert server.exit_code == 0
    await stream.aclose()


@pytest.mark.parametrize(
    ("death", "reason"),
    [
        ("import os; os._exit(7)", "it exited with code 7"),
        ("import sys; sys.exit(3)", "it exited with code 70"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it was ended by SIGSEGV"),
        ("import os; os.abort()", "it was ended by SIGABRT"),
        ("import os, signal; os.killpg(0, signal.SIGKILL)", "it was ended by SIGKILL"),
        ("import os; os.closerange(0, 60)", ""),
    ],
)
async def test_dead_isolate_is_replaced_and_its_neighbour_undisturbed(serve, tmp_path, death, reason):
    script = f"def handle(path):\n    if path == '/die':\n        {death}\n    return 'alive'\n"
    folders = [write_worker(tmp_path / name, script, name) for name in ("one", "two")]
    async with serve(*folders) as server:
        neighbour = await isolate_pid(server, "two.localhost")
        pid = await isolate_pid(server, "one.localhost")
        await server.send(b"GET /die HTTP/1.1\r\nHost: one.localhost\r\n\r\n")
        await server.report.wait_for(lambda report: report.deaths)
        assert await server.get("/", "one.localhost") == (200, "alive")
        assert await isolate_pid(server, "one.localhost") != pid
        assert await isolate_pid(server, "two.localhost") == neighbour
        worker, died, said, restart_in_s = server.report.deaths[0]
        assert (worker, died, restart_in_s) == ("one", pid, 0.0)
        assert said.startswith(reason)


async def test_blocked_event_loop_is_killed(serve, tmp_path):
    script = "import time\ndef handle(path):\n    if path == '/block': time.sleep(60)\n    return 'alive'\n"
    async with serve(write_worker(tmp_path / "w", script, edge={"blocked_ms": 1000})) as server:
        assert await server.send(b"GET /block HTTP/1.1\r\n\r\n") == b""
        await server.report.wait_for(lambda report: report.deaths)
        assert "blocked for more than 1000 ms" in server.report.deaths[0][2]
        assert await server.get("/") == (200, "alive")


async def test_endless_loop_is_killed_by_cpu_time(serve, tmp_path):
    script = "def handle(path):\n    while path == '/loop': pass\n    return 'alive'\n"
    async with serve(write_worker(tmp_path / "w", script, limits={"cpu_ms": 10})) as server:
        assert await server.send(b"GET /loop HTTP/1.1\r\n\r\n") == b""
        await server.report.wait_for(lambda report: report.deaths)
        assert "limits.cpu_ms = 10 ms" in server.report.deaths[0][2]
        assert await server.get("/") == (200, "alive")


async def test_crash_loop_backs_off_and_clients_are_told(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(backoff, "CRASH_BACKOFF_FIRST_S", 0.05)
    monkeypatch.setattr(backoff, "CRASH_WINDOW_S", 1000.0)
    monkeypatch.setattr(backoff, "CRASH_BACKOFF_MAX_S", 10_000.0)
    script = "import os\ndef handle(path):\n    os._exit(1)\n"
    async with serve(write_worker(tmp_path / "w", script), development=False) as server:

        async def crash(times):
            await server.send(b"GET / HTTP/1.1\r\n\r\n")
            await server.report.wait_for(lambda report: len(report.deaths) >= times)

        for times in (1, 2, 3):
            await crash(times)
        assert [death[3] for death in server.report.deaths] == [0.0, 0.05, 0.1]
        # The next crash puts the restart further away than clients are made to wait.
        monkeypatch.setattr(backoff, "CRASH_BACKOFF_FIRST_S", 1000.0)
        await crash(4)
        answer = await server.send(b"GET / HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 30\r\n" in answer
        assert b"exited" not in answer


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("def handle(path: pass", "SyntaxError"),
        ("raise RuntimeError('no luck')", "no luck"),
        ("import sys; sys.exit(0)", "sys.exit"),
        ("import os; os._exit(0)", "ended the process while it was imported"),
        ("import os; os.kill(os.getpid(), 12)", "ended the process while it was imported"),
    ],
)
async def test_script_that_does_not_load_is_explained_in_development_only(serve, tmp_path, script, said):
    folder = write_worker(tmp_path / "w", script)
    async with serve(folder) as server:
        status, text = await server.get("/")
        assert status == 500
        assert said in text
        assert said in "".join(server.report.failures[0])
        assert len(server.report.failures) == 1


async def test_script_that_does_not_load_is_a_plain_503_in_production(serve, tmp_path):
    async with serve(write_worker(tmp_path / "w", "raise RuntimeError('no luck')"), development=False) as server:
        status, text = await server.get("/")
        assert status == 503
        assert "no luck" not in text
        assert "no luck" in server.report.failures[0][1]


async def test_import_that_hangs_is_ended(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(template_handle, "STARTUP_MS", 100)
    async with serve(write_worker(tmp_path / "w", "import time; time.sleep(60)")) as server:
        status, text = await server.get("/")
        assert status == 500
        assert "took more than 100 ms" in text


@pytest.mark.parametrize(
    "script",
    [
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        "import socket; s = socket.socket()\n",
        "import os; p = os.pipe()\n",
    ],
)
async def test_import_that_cannot_be_forked_is_repeated_in_each_isolate(serve, tmp_path, script):
    async with serve(write_worker(tmp_path / "w", script + HELLO)) as server:
        assert await server.get("/preload") == (200, "False")
        assert await server.get("/x") == (200, "hello /x")


async def test_random_state_differs_between_isolates(serve, tmp_path):
    script = "import os, random\ndef handle(path):\n    return path == '/die' and os._exit(0) or str(random.random())\n"
    async with serve(write_worker(tmp_path / "w", script)) as server:
        first = await server.get("/")
        await server.send(b"GET /die HTTP/1.1\r\n\r\n")
        await server.report.wait_for(lambda report: report.deaths)
        assert await server.get("/") != first


async def test_reload_serves_the_new_script_and_survives_a_broken_one(serve, tmp_path):
    folder = write_worker(tmp_path / "w", HELLO)
    async with serve(folder, watch=True) as server:
        assert await server.get("/x") == (200, "hello /x")
        replace_text(folder / "entry.py", "def handle(path):\n    return 'second'\n")
        await server.report.wait_for(lambda report: len(report.loaded) == 2)
        assert await server.get("/x") == (200, "second")
        replace_text(folder / "entry.py", "def handle(path:\n")
        await server.report.wait_for(lambda report: report.failures)
        assert (await server.get("/x"))[0] == 500
        replace_text(folder / "wrangler.json", "{")
        await server.report.wait_for(lambda report: len(report.failures) == 2)
        status, text = await server.get("/x")
        assert status == 500
        assert "wrangler.json" in text
        write_worker(folder, "def handle(path):\n    return 'third'\n")
        await server.report.wait_for(lambda report: len(report.loaded) == 3)
        assert await server.get("/x") == (200, "third")


async def test_many_requests_and_reloads_leak_no_descriptors(serve, tmp_path):
    folder = write_worker(tmp_path / "w", HELLO)
    async with serve(folder, watch=True) as server:
        await server.get("/")
        before, inside = len(descriptors()), await server.get("/fds")
        for number in range(3):
            for _ in range(10):
                await server.get("/")
            replace_text(folder / "entry.py", HELLO + f"# {number}\n")
            await server.report.wait_for(lambda report, number=number: len(report.loaded) == 2 + number)
            assert await server.get("/fds") == inside
        while len(descriptors()) > before:
            await trio.sleep(0.02)


async def test_second_server_on_a_data_directory_is_refused(serve, tmp_path):
    folder = write_worker(tmp_path / "w", HELLO)
    async with serve(folder) as server:
        with pytest.raises(DataDirectoryInUse) as caught, DataDirectory(tmp_path / "data").lock():
            pass
        assert caught.value.pid == os.getpid()
        assert await server.get("/x") == (200, "hello /x")
    with DataDirectory(tmp_path / "data").lock():
        pass


async def test_taken_port_is_named_and_nothing_is_left_behind(zygote, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ServerOptions("localhost", port, tmp_path / "data", True, (), None, 1.0, False)
        with pytest.raises(UsageError, match=f"localhost:{port}: the port is taken"):
            await run_server(options, zygote, RecordingReport(), ())
    assert not exists(zygote.pid)


async def test_wrong_configuration_at_the_start_is_raised(zygote, tmp_path):
    (tmp_path / "w").mkdir()
    options = ServerOptions("localhost", 0, tmp_path / "data", True, (tmp_path / "w",), None, 1.0, False)
    with pytest.raises(ConfigError):
        await run_server(options, zygote, RecordingReport(), ())


async def test_connections_that_wait_before_a_dying_isolate_are_served_by_the_next(serve, tmp_path):
    script = (
        "import os, time\ndef handle(path):\n    if path == '/block': time.sleep(0.5); os._exit(1)\n    return 'ok'\n"
    )
    async with serve(write_worker(tmp_path / "w", script)) as server:
        await server.get("/")
        answers = []

        async def ask():
            answers.append(await server.get("/"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send, b"GET /block HTTP/1.1\r\n\r\n")
            await trio.sleep(0.1)
            for _ in range(100):
                nursery.start_soon(ask)
        assert answers == [(200, "ok")] * 100
        await server.report.wait_for(lambda report: report.deaths)
        assert len(server.report.deaths) == 1


async def test_what_scripts_print_is_reported_line_by_line(serve, tmp_path):
    script = (
        "import os, subprocess, sys\n"
        "print('imported')\n"
        "def handle(path):\n"
        "    print('out', path, flush=True)\n"
        "    print('err', file=sys.stderr)\n"
        "    os.write(1, b'\\xff' + b'x' * 20_000 + b'\\n\\n')\n"
        "    subprocess.run(['echo', 'from a program'])\n"
        "    os.write(1, b'unfinished')\n"
        "    return 'ok'\n"
    )
    async with serve(write_worker(tmp_path / "w", script)) as server:
        assert await server.get("/x") == (200, "ok")
        await server.report.wait_for(lambda report: len(report.printed) == 7)
    printed = [line for _, line in server.report.printed]
    long = "\ufffd" + "x" * 20_000
    assert printed[0] == "imported"
    assert printed[1:] == ["out /x", "err", long[:16384], long[16384:], "", "from a program", "unfinished"]


async def test_script_that_prints_without_end_disturbs_nobody(serve, tmp_path):
    script = (
        "import threading\n"
        "def flood():\n"
        "    while True: print('x' * 1000)\n"
        "def start(isolate): threading.Thread(target=flood, daemon=True).start()\n" + HELLO
    )
    noisy, quiet = write_worker(tmp_path / "noisy", script, "noisy"), write_worker(tmp_path / "quiet", HELLO, "quiet")
    async with serve(noisy, quiet) as server:
        assert await server.get("/x", "quiet.localhost") == (200, "hello /x")
