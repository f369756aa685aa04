"""`python -m edge_runtime.benchmark.attached PARENT ...`: the `edge` command, killed when the process PARENT ends.

So that no server is left behind, however the benchmark that started it ends.
"""

from __future__ import annotations

import sys

from edge_runtime.cli.main import main
from edge_runtime.supervisor.process_tree import end_with

if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    main(sys.argv[2:])
