"""Imports run one way, as the folders are ordered; a cycle or a shortcut upwards fails here."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

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
    "edge_runtime.log_lines",
    "edge_runtime.event",
    "edge_runtime.promise",
    "edge_runtime.metering.child_tasks",
    "edge_runtime.metering.native",
    "edge_runtime.metering.threads",
    "edge_runtime.metering.thread_starts",
    "edge_runtime.metering.thread_rows",
    "edge_runtime.metering.measure",
    "edge_runtime.metering.loop_thread",
    "edge_runtime.metering.meter",
    "edge_runtime.metering.panel",
    "edge_runtime.metering.panel_reader",
    "edge_runtime.metering.stack_file",
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

SUBFOLDERS = {
    "edge_runtime.isolate": [
        "http1",
        "hypercorn",
        "handlers",
        "script",
        "events",
        "peers",
        "outgoing",
        "websockets",
        "http",
    ],
    "edge_runtime.workflows": ["control", "instance", "driver", "attempts", "script", "stored", "core"],
}
"""Within a package the same: its subfolders, each of which imports only from itself and from those after it."""

PURE = {
    "edge_runtime.workflows.core": {
        "edge_runtime.limits",
        "edge_runtime.metering.quantities",
        "edge_runtime.store.values",
        "array",
        "collections",
        "enum",
        "heapq",
        "msgspec",
        "typing",
    },
}
"""Packages without I/O, clock and randomness, each with all that it may import besides itself."""

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
    found = set().union(*statements(name, path))
    return sorted(target for target in found if target.split(".")[0] in ("edge_runtime", "bindings"))


def statements(name, path, tree=None):
    """What each import of the module may mean: for `from a import b` these are a and a.b."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree or ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ({alias.name} for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join(parts[: len(parts) - node.level + 1] + ([node.module] if node.module else []))
            yield from ({base, f"{base}.{alias.name}"} for alias in node.names)


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


def place(name, package):
    """Where the subfolder stands that the module is in; before all others what is in none."""
    folder = name.removeprefix(f"{package}.").partition(".")[0]
    return SUBFOLDERS[package].index(folder) if folder in SUBFOLDERS[package] else -1


@pytest.mark.parametrize("package", SUBFOLDERS)
def test_every_subfolder_has_a_place_in_the_order(package):
    folder = ROOT / package.replace(".", "/")
    assert sorted(SUBFOLDERS[package]) == sorted(path.parent.name for path in folder.glob("*/__init__.py"))


@pytest.mark.parametrize("package", SUBFOLDERS)
def test_imports_between_the_subfolders_of_a_package_run_one_way(package):
    wrong = []
    for name, path in modules():
        if name.startswith(f"{package}."):
            inner = [target for target in imported(name, path) if target.startswith(f"{package}.")]
            wrong += [f"{name} imports {target}" for target in inner if place(target, package) < place(name, package)]
    assert not wrong


@pytest.mark.parametrize("package", PURE)
def test_a_pure_package_imports_nothing_that_reads_writes_waits_or_draws(package):
    allowed = PURE[package] | {package, "__future__"}
    wrong = []
    for name, path in modules():
        if within(name, {package}):
            found = statements(name, path)
            wrong += [
                f"{name} imports {min(meant)}" for meant in found if not any(within(one, allowed) for one in meant)
            ]
    assert not wrong


def within(name, packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_no_modules_import_each_other_in_a_circle():
    paths = dict(modules())
    needed = {}
    for name, path in paths.items():
        meant = [{*one} & paths.keys() for one in statements_that_run(name, path)]
        # `from a import b` needs a.b if that is a module, and a otherwise.
        needed[name] = {max(found, key=len) for found in meant if found} - {name}
    try:
        TopologicalSorter(needed).prepare()
    except CycleError as error:
        circle = error.args[1]
    else:
        circle = []
    assert not circle, " imports ".join(reversed(circle))


def statements_that_run(name, path):
    """`statements`, lazy ones too, without those that only a type checker reads."""
    return statements(name, path, WithoutTypes().visit(ast.parse(path.read_text())))


class WithoutTypes(ast.NodeTransformer):
    def visit_If(self, node):
        return node.orelse if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)
