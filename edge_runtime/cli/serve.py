"""What `edge dev` and `edge run` share: the zygote is forked first, then the server runs until it is stopped."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.supervisor.zygote import start_zygote


@dataclass(frozen=True, slots=True)
class ServeOptions:
    host: str
    port: int
    data_dir: Path
    development: bool
    workers: tuple[Path, ...]
    environment: str | None
    variables: tuple[tuple[str, str], ...]
    grace_s: float
    watch: bool
    quiet: bool
    as_json: bool


def serve(options: ServeOptions) -> None:
    """Serve until a signal; ends the process with the server's exit code."""
    # While this process still has one thread and little imported; it imports the isolates' part meanwhile.
    zygote = start_zygote()

    import trio

    from edge_runtime.cli.report import JsonReport, TerminalReport
    from edge_runtime.supervisor.output import LineWriter
    from edge_runtime.supervisor.server import ServerOptions, run_server

    with LineWriter(sys.stdout) as writer:
        report = (
            JsonReport(writer.write, quiet=options.quiet)
            if options.as_json
            else TerminalReport(
                writer.write,
                several_workers=len(options.workers) != 1,
                colour=sys.stdout.isatty(),
                quiet=options.quiet,
            )
        )
        server = ServerOptions(
            host=options.host,
            port=options.port,
            data_dir=options.data_dir,
            development=options.development,
            workers=options.workers,
            environment=options.environment,
            variables=options.variables,
            grace_s=options.grace_s,
            watch=options.watch,
        )
        code = trio.run(run_server, server, zygote, report)
    raise SystemExit(code)
