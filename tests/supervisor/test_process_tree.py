from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from edge_process import PATIENCE_S, eventually
from fake_isolates import HELLO, alive, write_worker

PROGRAM = Path(__file__).parent / "serve_fake.py"


class Program:
    def __init__(self, process):
        self.process = process

    def wait_for(self, name):
        for line in self.process.stdout:
            said = json.loads(line)
            if said[0] == name:
                return said[1:]
        raise AssertionError(f"the program ended without {name}")

    def start(self):
        self.port = int(self.wait_for("ready")[0].rpartition(":")[2])
        return self

    def get(self, path):
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            answer = b""
            while data := client.recv(65536):
                answer += data
        return answer.partition(b"\r\n\r\n")[2].decode()

    def family(self):
        """All processes below the program."""
        found, todo = set(), [self.process.pid]
        while todo:
            for task in Path(f"/proc/{todo.pop()}/task").iterdir():
                for child in map(int, (task / "children").read_text().split()):
                    found.add(child)
                    todo.append(child)
        return found


@contextmanager
def program(tmp_path, *folders, **environment):
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), str(tmp_path / "data"), *map(str, folders)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        with process:
            yield Program(process)
            process.kill()
    finally:
        process.kill()


def test_killed_server_takes_all_its_processes_along(tmp_path):
    with program(tmp_path, write_worker(tmp_path / "w", HELLO)) as server:
        server.start()
        isolate = int(server.get("/pid"))
        family = server.family()
        assert isolate in family
        assert len(family) == 3
        server.process.kill()
        eventually(lambda: not any(map(alive, family)))


@pytest.mark.parametrize("victim", ["edge-zygote", "edge-template"])
def test_killed_zygote_ends_the_server_and_killed_template_does_not(tmp_path, victim):
    with program(tmp_path, write_worker(tmp_path / "w", HELLO)) as server:
        server.start()
        server.get("/pid")
        family = server.family()
        (pid,) = [pid for pid in family if Path(f"/proc/{pid}/comm").read_text().strip() == victim]
        os.kill(pid, signal.SIGKILL)
        if victim == "edge-template":
            server.wait_for("isolate_died")
            assert server.get("/x") == "hello /x"
        else:
            assert server.process.wait(PATIENCE_S) == 1
            eventually(lambda: not any(map(alive, family)))


def test_isolate_in_an_endless_loop_dies_with_the_server_too(tmp_path):
    script = "def handle(path):\n    while path == '/loop': pass\n    return 'ok'\n"
    with program(tmp_path, write_worker(tmp_path / "w", script)) as server:
        server.start()
        isolate = int(server.get("/pid"))
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /loop HTTP/1.1\r\n\r\n")
            time.sleep(0.05)
            server.process.kill()
            eventually(lambda: not alive(isolate))


def test_what_a_script_started_dies_with_its_isolate(tmp_path):
    script = (
        "import os, subprocess\n"
        "def handle(path):\n"
        "    if path == '/die': os._exit(1)\n"
        "    return str(subprocess.Popen(['sleep', '600']).pid)\n"
    )
    with program(tmp_path, write_worker(tmp_path / "w", script)) as server:
        server.start()
        started = int(server.get("/start"))
        assert alive(started)
        server.get("/die")
        eventually(lambda: not alive(started))


def test_signal_ends_the_program_with_code_0_while_its_output_is_not_read(tmp_path):
    with program(tmp_path, write_worker(tmp_path / "w", HELLO)) as server:
        server.start()
        for _ in range(600):  # more log lines than the pipe holds
            assert server.get("/" + "x" * 300) == "hello /" + "x" * 300
        family = server.family()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE_S) == 0
        eventually(lambda: not any(map(alive, family)))


def test_exhausted_descriptors_pause_the_ingress_and_nothing_else(tmp_path):
    with program(tmp_path, write_worker(tmp_path / "w", HELLO), FAKE_NOFILE="64") as server:
        server.start()
        assert server.get("/x") == "hello /x"
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        assert "cannot accept" in server.wait_for("notice")[0]
        for client in clients:
            client.close()
        assert server.get("/x") == "hello /x"


def test_second_server_names_the_first(tmp_path):
    with program(tmp_path) as first:
        first.start()
        second = subprocess.run(
            [sys.executable, str(PROGRAM), str(tmp_path / "data")], capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert second.returncode == 1
        assert f"the running process {first.process.pid} holds it" in second.stderr
