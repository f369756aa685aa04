"""`python -m edge_runtime` is the `edge` command."""

from edge_runtime.cli.main import main

main()
