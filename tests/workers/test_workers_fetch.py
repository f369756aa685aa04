import gzip

import pytest
import trio
from edge_process import PATIENCE_S
from script_event import open_event, open_server

from edge_runtime.limits import OPEN_CONNECTIONS_MAX, REDIRECTS_MAX
from edge_runtime.workers import Request, Response, fetch
from edge_runtime.workers.abort import AbortController, AbortError
from edge_runtime.workers.network import Hop, Reply
from edge_runtime.workers.outgoing import next_hop
from edge_runtime.workers.streams import ReadableStream


class Server:
    """Answers by path, and remembers what it was asked."""

    def __init__(self):
        self.requests = []
        self.waiting = 0
        self.most_waiting = 0
        self.arrived = trio.Event()
        self.go_on = trio.Event()
        self.disconnected = trio.Event()

    async def __call__(self, scope, receive, send):
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message.get("more_body"):
                break
        self.requests.append((scope["method"], scope["path"], dict(scope["headers"]), body))
        self.arrived.set()
        await getattr(self, scope["path"].strip("/").replace("/", "_"))(scope, receive, send)

    async def answer(self, send, status=200, headers=(), body=b"Hi there!"):
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    async def sub(self, scope, receive, send):
        await self.answer(send, headers=[(b"x-a", b"1"), (b"x-a", b"2"), (b"set-cookie", b"id=1")])

    async def redirect(self, scope, receive, send):
        await self.answer(send, 302, [(b"location", b"/sub")])

    async def repeat(self, scope, receive, send):
        await self.answer(send, 307, [(b"location", b"/sub")])

    async def loop(self, scope, receive, send):
        await self.answer(send, 302, [(b"location", b"/loop")])

    async def zipped(self, scope, receive, send):
        await self.answer(send, headers=[(b"content-encoding", b"gzip")], body=gzip.compress(b"unpacked"))

    async def slow(self, scope, receive, send):
        self.waiting += 1
        self.most_waiting = max(self.waiting, self.most_waiting)
        with trio.move_on_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:

                async def notice():
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    self.disconnected.set()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(notice)
                await self.go_on.wait()
                nursery.cancel_scope.cancel()
        self.waiting -= 1
        await self.answer(send)

    async def stream(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first,", "more_body": True})
        await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"second"})


@pytest.fixture
async def server():
    app = Server()
    async with open_server(app) as url:
        app.url = url
        yield app
        app.go_on.set()


async def test_response_of_a_fetch(event, server):
    async def script():
        response = await fetch(f"{server.url}/sub", method="POST", body="ping", headers={"Custom": 123})
        assert isinstance(response, Response)
        assert response.headers.get("x-a") == "1, 2"
        return response.status, response.url, response.redirected, await response.text()

    assert await event.run(script) == (200, f"{server.url}/sub", False, "Hi there!")
    method, _, headers, body = server.requests[0]
    assert (method, body, headers[b"custom"]) == ("POST", b"ping", b"123")
    assert headers[b"content-type"] == b"text/plain;charset=UTF-8"
    assert b"user-agent" not in headers
    assert event.meter.subrequests == 1


async def test_cookies_are_not_kept(event, server):
    async def script():
        await fetch(f"{server.url}/sub")
        await fetch(f"{server.url}/sub")

    await event.run(script)
    assert b"cookie" not in server.requests[1][2]


async def test_redirects_are_followed_and_counted(event, server):
    async def script():
        response = await fetch(f"{server.url}/redirect", method="POST", body="x")
        return response.redirected, response.url, await response.text()

    assert await event.run(script) == (True, f"{server.url}/sub", "Hi there!")
    assert server.requests[1][0] == "GET"
    assert server.requests[1][3] == b""
    assert event.meter.subrequests == 2


async def test_307_repeats_method_and_body(event, server):
    async def script():
        await fetch(f"{server.url}/repeat", method="PUT", body="x")

    await event.run(script)
    assert [(request[0], request[3]) for request in server.requests] == [("PUT", b"x"), ("PUT", b"x")]


async def test_manual_and_error_redirects(event, server):
    async def script():
        response = await fetch(f"{server.url}/redirect", redirect="manual", cf={"cacheTtl": 5})
        assert (response.status, response.headers["location"]) == (302, "/sub")
        with pytest.raises(OSError, match='redirect="error"'):
            await fetch(f"{server.url}/redirect", redirect="error")

    await event.run(script)


async def test_endless_redirects_end(event, server):
    async def script():
        with pytest.raises(OSError, match="Too many redirects"):
            await fetch(f"{server.url}/loop")

    await event.run(script)
    assert len(server.requests) == REDIRECTS_MAX + 1


async def test_compressed_bodies_are_unpacked(event, server):
    async def script():
        response = await fetch(f"{server.url}/zipped")
        assert response.headers.get("content-encoding") is None
        return await response.text()

    assert await event.run(script) == "unpacked"


async def test_bodies_are_streamed_in(event, server):
    async def script():
        response = await fetch(f"{server.url}/stream")
        reader = response.body.getReader()
        first = (await reader.read()).value
        server.go_on.set()
        return bytes(first), bytes((await reader.read()).value), (await reader.read()).done

    assert await event.run(script) == (b"first,", b"second", True)


async def test_bodies_are_streamed_out(event, server):
    async def pieces():
        yield b"a"
        yield "b"

    async def script():
        await fetch(f"{server.url}/sub", method="POST", body=pieces())
        await fetch(f"{server.url}/sub", method="POST", body=ReadableStream.of_bytes(b"cd"))

    await event.run(script)
    assert [request[3] for request in server.requests] == [b"ab", b"cd"]
    assert server.requests[0][2][b"transfer-encoding"] == b"chunked"


async def test_error_of_a_body_generator_is_raised(event, server):
    async def broken():
        yield b"a"
        raise ValueError("broken generator")

    async def script():
        await fetch(f"{server.url}/sub", method="POST", body=broken())

    with pytest.raises(ValueError, match="broken generator"):
        await event.run(script)


async def test_at_most_so_many_requests_wait_at_a_time(server):
    async with open_event() as event:

        async def script():
            started = [fetch(f"{server.url}/slow") for _ in range(OPEN_CONNECTIONS_MAX + 3)]
            while server.waiting < OPEN_CONNECTIONS_MAX:
                await trio.sleep(0.001)
            await trio.sleep(0.02)
            server.go_on.set()
            return [(await promise).status for promise in started]

        assert await event.run(script) == [200] * (OPEN_CONNECTIONS_MAX + 3)
    assert server.most_waiting == OPEN_CONNECTIONS_MAX


async def test_a_timeout_around_fetch_ends_the_request(server):
    async with open_event() as event:

        async def script():
            sent = fetch(f"{server.url}/slow")
            await server.arrived.wait()
            with trio.move_on_after(0.01) as scope:
                await sent
            return scope.cancelled_caught

        assert await event.run(script)
        with trio.fail_after(PATIENCE_S):
            await server.disconnected.wait()


async def test_an_abort_signal_ends_the_request(event, server):
    async def script():
        controller = AbortController.new()
        sent = fetch(f"{server.url}/slow", signal=controller.signal)
        controller.abort("enough")
        with pytest.raises(AbortError, match="enough"):
            await sent
        with pytest.raises(AbortError, match="enough"):
            await fetch(f"{server.url}/sub", signal=controller.signal)

    await event.run(script)


async def test_the_end_of_the_event_closes_what_is_unread(server):
    kept = []
    async with open_event() as event:

        async def script():
            kept.append(await fetch(f"{server.url}/stream"))

        await event.run(script)
    with pytest.raises(OSError, match="its event has ended"):
        await kept[0].text()


async def test_subrequests_are_limited(event, server):
    event.subrequests_max = 2

    async def script():
        await fetch(f"{server.url}/sub")
        await fetch(f"{server.url}/sub")
        with pytest.raises(OSError, match=r"Too many subrequests\."):
            await fetch(f"{server.url}/sub")

    await event.run(script)
    assert len(server.requests) == 2


async def test_nothing_leaves_an_actor_before_its_writes_are_durable(server):
    class Actor:
        def __init__(self):
            self.durable = trio.Event()

        async def wait_durable(self):
            await self.durable.wait()

    actor = Actor()
    async with open_event(actor=actor) as event:

        async def script():
            sent = fetch(f"{server.url}/sub")
            await trio.sleep(0.01)
            assert not server.requests
            actor.durable.set()
            return (await sent).status

        assert await event.run(script) == 200


async def test_failures_are_os_errors(event):
    async def script():
        with pytest.raises(OSError, match="Invalid URL: nowhere"):
            await fetch("nowhere")
        with pytest.raises(OSError, match=r"GET http://127.0.0.1:1/"):
            await fetch("http://127.0.0.1:1/")
        with pytest.raises(OSError, match="line breaks"):
            await fetch("http://127.0.0.1:1/", headers={"a": "b\nc"})

    await event.run(script)


async def test_a_second_positional_argument_gets_the_plain_error(event):
    with pytest.raises(TypeError, match=r"^fetch\(\) takes 1 positional argument but 2 were given$"):
        fetch("http://x/", {"headers": {}})


def test_fetch_outside_of_an_event_says_so():
    with pytest.raises(RuntimeError, match=r"fetch\(\) was called outside of an event"):
        fetch("http://x/")


async def test_a_fetcher_is_used_in_place_of_the_network(event):
    async def fetcher(request):
        return Response(request.url).js_object

    async def script():
        response = await fetch(Request("http://x/y"), fetcher=fetcher)
        return await response.text()

    assert await event.run(script) == "http://x/y"


async def nothing():
    return None


def reply(status, location):
    return Reply(status, "", [(b"location", location)], nothing, nothing)


def test_credentials_do_not_go_to_another_origin():
    hop = Hop("GET", "https://a.example/", [(b"authorization", b"s"), (b"cookie", b"c"), (b"x", b"y")], None)
    assert next_hop(hop, reply(302, b"https://b.example/")).headers == [(b"x", b"y")]
    assert next_hop(hop, reply(302, b"/other")) == hop._replace(url="https://a.example/other")


def test_a_streamed_body_cannot_be_sent_again():
    hop = Hop("POST", "https://a.example/", [], ReadableStream.of_bytes(b"x"))
    with pytest.raises(OSError, match="one-time-use body"):
        next_hop(hop, reply(307, b"/x"))
    assert next_hop(hop, reply(303, b"/x")).body is None


@pytest.mark.parametrize("location", [b"file:///etc/passwd", b"http://", b"javascript:x"])
def test_redirects_lead_to_http_only(location):
    with pytest.raises(OSError, match="was redirected to"):
        next_hop(Hop("GET", "https://a.example/", [], None), reply(302, location))
