"""A server on fake isolates as a program: `python serve_fake.py DATA FOLDER...`; prints what happens, one JSON a line.

With FAKE_NOFILE set it may open only so many descriptors.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

from edge_runtime.supervisor.output import LineWriter
from edge_runtime.supervisor.zygote import start_zygote


def runtime():
    from fake_isolates import fake_runtime

    return fake_runtime()


class PrintingReport:
    def __init__(self, write):
        self._write = write

    def __getattr__(self, name):
        return lambda *facts: self._write(json.dumps([name, *map(str, facts)]))


def main(data, *folders):
    if "FAKE_NOFILE" in os.environ:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(os.environ["FAKE_NOFILE"]),) * 2)
    zygote = start_zygote(runtime)
    import trio

    from edge_runtime.supervisor.server import ServerOptions, run_server

    with LineWriter(sys.stdout) as writer:
        options = ServerOptions("localhost", 0, Path(data), False, tuple(map(Path, folders)), None, 1.0, False)
        return trio.run(run_server, options, zygote, PrintingReport(writer.write), ())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
