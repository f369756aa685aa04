"""A small OpenAI-compatible server that stands in for a model: POST /v1/chat/completions, streamed.

It answers with a fixed text about the prompt, a word at a time. With --log FILE it appends a line per call, which
tests use to see from outside how often the model was asked.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve


async def application(word_delay_s: float, log: str | None, scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    if (scope["method"], scope["path"]) != ("POST", "/v1/chat/completions"):
        await _reply(send, 404, {"error": {"message": f"no route {scope['method']} {scope['path']}"}})
        return
    try:
        prompt = json.loads(body)["messages"][-1]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        await _reply(send, 400, {"error": {"message": "send messages as the OpenAI API has them"}})
        return
    if log is not None:
        _append(log, prompt)
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    answer = f"You asked: {prompt} This local stand-in has no model behind it; set OPENAI_BASE_URL to ask a real one."
    for word in answer.split(" "):
        chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": word + " "}}]})
        await send({"type": "http.response.body", "body": f"data: {chunk}\n\n".encode(), "more_body": True})
        await trio.sleep(word_delay_s)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


async def _reply(send: Any, status: int, value: object) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _append(log: str, prompt: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps({"prompt": prompt}).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def run(port: int, word_delay_s: float, log: str | None) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, partial(application, word_delay_s, log), config))
        print(f"model server on {bound[0]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8788, help="0 takes a free one")
    parser.add_argument("--word-delay-s", type=float, default=0.15)
    parser.add_argument("--log", help="file to append a line to for each call")
    options = parser.parse_args()
    try:
        trio.run(run, options.port, options.word_delay_s, options.log)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
