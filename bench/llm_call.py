"""What is billed for a step that waits 20 s for a streaming model? The app llm_offload asks its local model once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.processes import HERE, Server, edge_dev, server

APP = HERE.parent / "apps" / "llm_offload"
_CALL_S = 20.0
_WORDS = 18  # of the local model's answer, with a prompt of one word
_LEDGER_S = 3.0  # the ledger of a running server is up to a second old


def run() -> Iterator[Figure]:
    model = [sys.executable, APP / "model_server.py", "--port", 0, "--word-delay-s", _CALL_S / _WORDS]
    with (
        server(model, Path()) as answering,
        edge_dev(APP, "--var", f"OPENAI_BASE_URL:http://127.0.0.1:{answering.port}/v1") as app,
    ):
        _ask(app)
        yield from _step(app)


def _ask(app: Server) -> None:
    """Until the answer is there."""
    url = f"http://127.0.0.1:{app.port}"
    question = urllib.request.Request(f"{url}/ask", json.dumps({"session": "s", "prompt": "Why?"}).encode())
    with urllib.request.urlopen(question) as answer:
        ask_id = json.load(answer)["id"]
    deadline = time.monotonic() + 10 * _CALL_S
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}/answers/{ask_id}") as answer:
            if json.load(answer).get("status") == "complete":
                return
        time.sleep(1)
    raise RuntimeError(f"the answer {ask_id} did not come")


def _step(app: Server) -> Iterator[Figure]:
    time.sleep(_LEDGER_S)
    command = [sys.executable, "-m", "edge_runtime", "usage", "--data", str(app.data), "--json"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    step = next(row for row in rows if row["handler"] == "ask-model/ask model")
    whole_us = sum(row["cpu_us"] for row in rows if row["kind"] in ("workflow", "step", "rpc"))
    note = f"in {step['wall_ms'] / 1000:.1f} s, {_WORDS} pieces streamed"
    yield Figure("CPU billed for the step that waits for the model", step["cpu_us"], "us", note=note)
    yield Figure("CPU billed for the workflow with its five steps and objects", whole_us, "us")
