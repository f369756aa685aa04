"""Run the app with `edge dev`, and a local stand-in for the model unless OPENAI_BASE_URL is set."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8787)
    parser.add_argument("--data", default=None, help="data directory; by default .edge in this folder")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    command = [sys.executable, "-m", "edge_runtime", "dev", str(HERE), "--port", str(options.port)]
    if options.data is not None:
        command += ["--data", options.data]
    model = None
    base_url = os.environ.get("OPENAI_BASE_URL")
    if base_url is None:
        model = subprocess.Popen(
            [sys.executable, str(HERE / "model_server.py"), "--port", "0"], stdout=subprocess.PIPE, text=True
        )
        assert model.stdout is not None
        base_url = model.stdout.readline().strip().rpartition(" ")[2] + "/v1"
    command += ["--var", f"OPENAI_BASE_URL:{base_url}"]
    key = "none needed" if model is not None else f"OPENAI_API_KEY=... in {HERE / '.dev.vars'}"
    url = f"http://localhost:{options.port}"
    print(
        f"model: {base_url}\n"
        f"key:   {key}\n"
        f"try:   open {url}\n"
        f'       curl -d \'{{"session": "s1", "prompt": "What is an actor?"}}\' {url}/ask\n'
        f"       curl {url}/answers/ID        (the id that /ask answered)\n"
        f"       curl -N {url}/sessions/s1/events\n"
        f"       stop it with Ctrl-C while an answer is being written, and start it again",
        flush=True,
    )
    server = subprocess.Popen(command)
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.send_signal(signal.SIGINT)
        return server.wait()
    finally:
        if model is not None:
            model.terminate()
            model.wait()


def _interrupt(signal_number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
