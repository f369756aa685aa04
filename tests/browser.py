"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import trio
from edge_process import PATIENCE_S
from websocket_client import WebSocketClient, connected


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One tab."""

    def __init__(self, client: WebSocketClient) -> None:
        self._client = client
        self._ids = itertools.count(1)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; AssertionError if it throws."""
        answer = await self._ask(expression)
        assert "exceptionDetails" not in answer.get("result", {"exceptionDetails": answer}), answer
        return answer["result"]["result"].get("value")

    async def _ask(self, expression: str) -> Any:
        number = next(self._ids)
        params = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        await self._client.send(json.dumps({"id": number, "method": "Runtime.evaluate", "params": params}))
        while (answer := await self._client.receive_json()).get("id") != number:
            pass
        return answer

    async def loaded(self, url: str) -> None:
        """Return when the page at `url` is there; what was there before it may vanish under an expression."""
        ready = f"document.readyState === 'complete' && location.href === {json.dumps(url)}"
        with trio.fail_after(PATIENCE_S):
            while not (await self._ask(ready)).get("result", {}).get("result", {}).get("value"):
                await trio.sleep(0.05)

    async def until(self, expression: str, timeout_s: float = PATIENCE_S) -> Any:
        """The expression's first true value."""
        value = None
        with trio.move_on_after(timeout_s):
            while not (value := await self.evaluate(expression)):
                await trio.sleep(0.05)
            return value
        raise AssertionError(f"{expression} is still {value!r} after {timeout_s} s")


class Browser:
    def __init__(self, port: int, clients: AsyncExitStack) -> None:
        self._port = port
        self._clients = clients

    async def open(self, url: str) -> Page:
        async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE_S) as http:
            answer = await http.put(f"http://127.0.0.1:{self._port}/json/new?{quote(url, safe='')}")
        target = urlsplit(answer.json()["webSocketDebuggerUrl"]).path
        page = Page(await self._clients.enter_async_context(connected(self._port, target)))
        await page.loaded(url)
        return page


@asynccontextmanager
async def browser(profile: Path) -> AsyncIterator[Browser]:
    """A browser with an empty profile in the folder given."""
    with _started(profile) as process:
        port = await trio.to_thread.run_sync(_port, process)
        async with AsyncExitStack() as clients:
            yield Browser(port, clients)


@contextmanager
def _started(profile: Path) -> Iterator[subprocess.Popen[str]]:
    executable = chromium()
    assert executable is not None
    command = [
        executable, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-dev-shm-usage", "--no-proxy-server", "--remote-debugging-port=0", f"--user-data-dir={profile}",
        "about:blank",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _port(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    for line in process.stderr:
        if match := re.search(r"DevTools listening on ws://127\.0\.0\.1:(\d+)/", line):
            return int(match[1])
    raise AssertionError("the browser ended without saying where it listens")
