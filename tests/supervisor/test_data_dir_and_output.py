from __future__ import annotations

import os
import select
import subprocess
import sys
import threading

import pytest
from edge_process import eventually

from edge_runtime.errors import DataDirectoryInUse, StoreError
from edge_runtime.socket_paths import isolates_lock
from edge_runtime.supervisor import data_dir, output
from edge_runtime.supervisor.data_dir import DataDirectory
from edge_runtime.supervisor.output import LineWriter


def test_lock_creates_the_layout_for_this_user_only(tmp_path):
    directory = DataDirectory(tmp_path / "deep" / "data")
    with directory.lock():
        assert (directory.path / "lock").read_text() == f"{os.getpid()}\n"
        for folder in (directory.store, directory.run, directory.deployments, directory.packages):
            assert folder.stat().st_mode & 0o777 == 0o700


def test_lock_of_a_killed_process_is_free_again(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from edge_runtime.supervisor.data_dir import DataDirectory\n"
        "with DataDirectory(Path(sys.argv[1])).lock(): print('locked', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(DataDirectoryInUse) as caught, DataDirectory(tmp_path).lock():
            pass
        assert caught.value.pid == holder.pid
        holder.kill()
        holder.wait()
        with DataDirectory(tmp_path).lock():
            pass


@pytest.fixture
def left_over_isolate(tmp_path):
    with DataDirectory(tmp_path).lock():
        pass
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'rb'); fcntl.lockf(file, fcntl.LOCK_SH)\n"
        "print('locked', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(isolates_lock(tmp_path))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as isolate:
        isolate.stdout.readline()
        yield isolate
        isolate.kill()


def test_isolates_of_a_killed_server_are_waited_for(left_over_isolate, tmp_path):
    ending = threading.Timer(0.05, left_over_isolate.kill)
    ending.start()
    with DataDirectory(tmp_path).lock():
        assert left_over_isolate.wait() < 0
    ending.join()


def test_isolates_of_a_killed_server_that_do_not_end_are_named(left_over_isolate, tmp_path, monkeypatch):
    monkeypatch.setattr(data_dir, "LEFT_OVER_WAIT_S", 0.03)
    with pytest.raises(StoreError, match="edge-isolate"), DataDirectory(tmp_path).lock():
        pass


def test_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"), DataDirectory(tmp_path / "file" / "data").lock():
        pass


def test_blocked_output_drops_lines_and_says_how_many(monkeypatch):
    monkeypatch.setattr(output, "OUTPUT_LINES_MAX", 10)
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as reader, open(write_end, "w") as stream, LineWriter(stream) as writer:
        writer.write("x" * 100_000)  # more than a pipe holds
        eventually(lambda: not select.select([], [write_end], [], 0)[1])
        for number in range(200):
            writer.write(str(number))
        assert writer.dropped == 190
        assert reader.readline() == b"x" * 100_000 + b"\n"
        assert reader.readline() == b"(190 lines were dropped: the output was not read)\n"
        assert [reader.readline() for _ in range(10)] == [f"{number}\n".encode() for number in range(10)]


def test_closed_output_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as stream, LineWriter(stream) as writer:
        writer.write("nobody hears this")
