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
    command = [sys.executable, "-m", "edge_runtime", "dev", str(HERE), "--port", str(options.port)]
    if options.data is not None:
        command += ["--data", options.data]
    base_url = os.environ.get("OPENAI_BASE_URL")
    if base_url is not None:
        return serve([*command, "--var", f"OPENAI_BASE_URL:{base_url}"], base_url, options.port, needs_key=True)
    with subprocess.Popen(
        [sys.executable, str(HERE / "model_server.py"), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as model:
        try:
            assert model.stdout is not None
            base_url = model.stdout.readline().strip().rpartition(" ")[2] + "/v1"
            return serve([*command, "--var", f"OPENAI_BASE_URL:{base_url}"], base_url, options.port, needs_key=False)
        finally:
            model.terminate()


def serve(command: list[str], base_url: str, port: int, *, needs_key: bool) -> int:
    """Say what to try, and run the server until it ends."""
    url = f"http://localhost:{port}"
    print(
        f"model: {base_url}\n"
        f"key:   {f'OPENAI_API_KEY=... in {HERE}/.dev.vars' if needs_key else 'none needed'}\n"
        f"try:   open {url}\n"
        f'       curl -d \'{{"session": "s1", "prompt": "What is an actor?"}}\' {url}/ask\n'
        f"       curl {url}/answers/ID        (the id that /ask answered)\n"
        f"       curl -N {url}/sessions/s1/events\n"
        f"       stop it with Ctrl-C while an answer is being written, and start it again",
        flush=True,
    )
    # In a process group of its own, so that Ctrl-C reaches it once: from here.
    server = subprocess.Popen(command, process_group=0)

    def stop(signal_number: int, frame: object) -> None:
        server.send_signal(signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return server.wait()


if __name__ == "__main__":
    raise SystemExit(main())
