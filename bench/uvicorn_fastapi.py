"""The baseline: the FastAPI app of `workers/fastapi_app` under uvicorn with httptools on asyncio's own loop."""

from __future__ import annotations

import socket
import sys

import uvicorn

from bench.processes import HERE


def main() -> None:
    sys.path.insert(0, str(HERE / "workers/fastapi_app"))
    config = uvicorn.Config("hello:app", http="httptools", loop="asyncio", access_log=False, log_level="error")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
