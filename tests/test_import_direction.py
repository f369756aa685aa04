"""Imports run one way, as the folders are ordered; a cycle or a shortcut upwards fails here."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent

ORDER = [
    "edge_runtime.cli",
    "edge_runtime.benchmark",
    "edge_runtime.supervisor",
    "edge_runtime.testing",
    "edge_runtime.isolate",
    "bindings",
    "edge_runtime.workflows",
    "edge_runtime.actors",
    "edge_runtime.compat",
    "edge_runtime.workers",
    "edge_runtime.metering.bill",
    "edge_runtime.metering.tariff",
    "edge_runtime.metering.grouping",
    "edge_runtime.metering.compaction",
    "edge_runtime.metering.left_usage",
    "edge_runtime.metering.ledger",
    "edge_runtime.store",
]
"""From the command line down to the disk: a package imports only from those after it, and from LEAVES."""

LEAVES = [
    "edge_runtime.wire",
    "edge_runtime.frames",
    "edge_runtime.control",
    "edge_runtime.event",
    "edge_runtime.promise",
    "edge_runtime.metering.child_tasks",
    "edge_runtime.metering.native",
    "edge_runtime.metering.threads",
    "edge_runtime.metering.thread_rows",
    "edge_runtime.metering.measure",
    "edge_runtime.metering.loop_thread",
    "edge_runtime.metering.meter",
    "edge_runtime.metering.panel",
    "edge_runtime.metering.tally_files",
    "edge_runtime.metering.tally",
    "edge_runtime.metering.quantities",
    "edge_runtime.config",
    "edge_runtime.routing",
    "edge_runtime.connection_marks",
    "edge_runtime.socket_paths",
    "edge_runtime.tracebacks",
    "edge_runtime.forked",
    "edge_runtime.memory",
    "edge_runtime.process_cpu",
    "edge_runtime.seams",
    "edge_runtime.errors",
    "edge_runtime.limits",
]
"""Used by many; a leaf imports only from leaves."""

NOT_CHECKED = {
    # The zygote and its templates turn into isolates: they import what they will run.
    "edge_runtime.supervisor.zygote",
    "edge_runtime.supervisor.template",
    "edge_runtime.__main__",
}


def modules():
    for package in ("edge_runtime", "bindings"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imported(name, path):
    """What the module imports from this project, lazily or not."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join(parts[: len(parts) - node.level + 1] + ([node.module] if node.module else []))
            found = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (target for target in found if target.split(".")[0] in ("edge_runtime", "bindings"))


def rank(name):
    for prefix in sorted([*ORDER, *LEAVES], key=len, reverse=True):
        if name == prefix or name.startswith(f"{prefix}."):
            return len(ORDER) if prefix in LEAVES else ORDER.index(prefix)
    return None


def test_imports_run_from_the_command_line_down_to_the_store():
    wrong = []
    for name, path in modules():
        own = rank(name)
        if own is None or name in NOT_CHECKED:
            continue
        wrong += [f"{name} imports {target}" for target in imported(name, path) if (rank(target) or 99) < own]
    assert not wrong


def test_every_module_has_a_place_in_the_order():
    packages = {"edge_runtime", "edge_runtime.metering", "edge_runtime.__main__"}
    assert [name for name, _ in modules() if rank(name) is None and name not in packages] == []
