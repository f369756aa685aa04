from __future__ import annotations

import os
import socket

import pytest
import trio
from edge_process import PATIENCE_S
from fake_isolates import HELLO, alive, write_worker

from edge_runtime.socket_paths import socket_address
from edge_runtime.supervisor import ingress, listeners
from edge_runtime.supervisor.data_dir import DataDirectory


def named(name):
    return f"def handle(path):\n    return '{name} ' + path\n"


@pytest.fixture
def three(tmp_path):
    return [
        write_worker(tmp_path / "plain", named("plain"), "plain"),
        write_worker(tmp_path / "api", named("api"), "api", routes=["example.com/api/*"]),
        write_worker(tmp_path / "site", named("site"), "site", routes=["example.com/*", "*.example.com/*"]),
    ]


async def test_requests_go_to_the_worker_of_their_host_and_path(serve, three):
    async with serve(*three) as server:
        assert await server.get("/api/x", "example.com") == (200, "api /api/x")
        assert await server.get("/x", "EXAMPLE.com:8787") == (200, "site /x")
        assert await server.get("/api/x", "www.example.com") == (200, "site /api/x")
        assert await server.get("/x", "api.localhost") == (200, "api /x")
        assert await server.get("/x") == (200, "plain /x")


async def test_head_may_arrive_in_any_pieces(serve, three):
    head = b"GET /api/x HTTP/1.1\r\nAccept: */*\r\nHost: example.com\r\n\r\n"
    async with serve(*three) as server:
        for size in (1, 7, 20):
            pieces = [head[i : i + size] for i in range(0, len(head), size)]
            assert (await server.send(*pieces)).endswith(b"api /api/x")


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", b"HTTP/1.1 400 "),
        (b"\x00\xff garbage \r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET  / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\nHost: nowhere.example\r\n\r\n", b"HTTP/1.1 404 "),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"HTTP/1.1 431 "),
        (b"", b""),
    ],
)
async def test_what_belongs_nowhere_is_answered_without_waking_anybody(serve, tmp_path, sent, answered):
    folders = [write_worker(tmp_path / name, named(name), name, routes=[f"{name}.com/*"]) for name in ("a", "b")]
    async with serve(*folders, development=False) as server:
        stream = await server.connect()
        await stream.send_all(sent)
        await stream.send_eof()
        answer = b"".join([data async for data in stream])
        await stream.aclose()
        assert answer.startswith(answered)
        assert (not answer) is (not answered)
        assert not server.report.loaded
        assert await server.get("/x", "a.com") == (200, "a /x")


async def test_http2_with_prior_knowledge_goes_to_the_default_worker(serve, three):
    async with serve(*three, development=False) as server:
        await server.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b" / ")
        assert [name for name, _ in server.report.loaded] == ["plain"]


async def test_half_sent_head_of_a_client_that_has_gone_is_refused(serve, three):
    async with serve(*three) as server:
        stream = await server.connect()
        await stream.send_all(b"GET / HT")
        await stream.send_eof()
        with trio.fail_after(PATIENCE_S):
            answer = b"".join([data async for data in stream])
        assert answer.startswith(b"HTTP/1.1 400 ")
        await stream.aclose()


async def test_silent_clients_make_room_when_there_are_too_many(serve, three, monkeypatch):
    monkeypatch.setattr(ingress, "INGRESS_PENDING_MAX", 5)
    async with serve(*three) as server:
        streams = [await server.connect() for _ in range(8)]
        for stream in streams[:3]:
            with trio.fail_after(PATIENCE_S):
                assert await stream.receive_some() == b""
        assert await server.get("/x") == (200, "plain /x")
        for stream in streams:
            await stream.aclose()


async def test_silent_client_is_closed_after_a_while(serve, three, monkeypatch):
    monkeypatch.setattr(ingress, "PEEK_TIMEOUT_S", 0.05)
    async with serve(*three) as server:
        stream = await server.connect()
        with trio.fail_after(PATIENCE_S):
            assert await stream.receive_some() == b""
        await stream.aclose()


async def test_clients_that_reset_at_any_stage_disturb_nobody(serve, three):
    async with serve(*three) as server:
        for sent in (b"", b"GET ", b"GET /x HTTP/1.1\r\nHost: example.com\r\n\r\n"):
            for _ in range(20):
                client = socket.create_connection(("127.0.0.1", server.port))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(sent)
                client.close()
        assert await server.get("/x") == (200, "plain /x")
        assert not server.report.deaths


async def test_relays_reach_workers_through_the_inner_socket(serve, three, tmp_path):
    directory = DataDirectory(tmp_path / "data")
    async with serve(*three):
        assert directory.ingress_socket.stat().st_mode & 0o777 == 0o600
        with socket_address(directory.ingress_socket) as address:
            stream = await trio.open_unix_socket(address)
        async with stream:
            await stream.send_all(b"GET /in HTTP/1.1\r\n")
            await trio.sleep(0.02)
            await stream.send_all(b"Host: api.localhost\r\n\r\n")
            answer = b"".join([data async for data in stream])
        assert answer.endswith(b"api /in")


async def test_localhost_listens_on_both_loopback_addresses(serve, tmp_path):
    async with serve(write_worker(tmp_path / "w", HELLO)) as server:
        for address in ("127.0.0.1", "::1"):
            stream = await trio.open_tcp_stream(address, server.port)
            await stream.send_all(b"GET /x HTTP/1.1\r\n\r\n")
            answer = b"".join([data async for data in stream])
            assert answer.endswith(b"hello /x")
            await stream.aclose()


async def test_workers_start_on_demand_in_production(serve, three):
    async with serve(*three, development=False) as server:
        assert not server.report.loaded
        assert await server.get("/x", "example.com") == (200, "site /x")
        assert [name for name, _ in server.report.loaded] == ["site"]


async def test_socket_path_may_be_long(serve, tmp_path):
    data = tmp_path.joinpath(*["long-enough-to-matter"] * 8)
    async with serve(write_worker(tmp_path / "w", HELLO), data=data):
        with socket_address(DataDirectory(data).ingress_socket) as address:
            stream = await trio.open_unix_socket(address)
        async with stream:
            await stream.send_all(b"GET /x HTTP/1.1\r\n\r\n")
            answer = b"".join([data async for data in stream])
        assert answer.endswith(b"hello /x")


def test_port_that_is_free_at_one_loopback_address_only_is_not_taken_for_a_free_one(monkeypatch):
    listen, taken = listeners._listen, []

    def listen_where_one_is_taken(family, address):
        if family == socket.AF_INET6 and not taken:
            taken.append(listen(family, address))
        return listen(family, address)

    monkeypatch.setattr(listeners, "_listen", listen_where_one_is_taken)
    opened = listeners.open_tcp("localhost", 0)
    ports = {sock.getsockname()[1] for sock in opened}
    for sock in (*opened, *taken):
        sock.close()
    assert len(opened) == 2
    assert len(ports) == 1


def test_accepted_sockets_have_a_limit_on_unread_writes():
    (listener,) = listeners.open_tcp("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.fileno() >= 0


async def test_isolate_pids_are_gone_after_the_end(serve, three):
    async with serve(*three) as server:
        pids = [int((await server.get("/pid", host))[1]) for host in ("api.localhost", "site.localhost", "localhost")]
        assert len({*pids, os.getpid()}) == 4
    assert not any(map(alive, pids))
