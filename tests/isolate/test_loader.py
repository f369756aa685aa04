"""Loading scripts: what an author is told when theirs does not load."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.config.model import WorkerConfig, WorkerLimits
from edge_runtime.errors import ScriptError
from edge_runtime.isolate.script.loader import load_script


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a script from a folder of its own, as a template does; modules it brought are forgotten afterwards."""
    known = set(sys.modules)
    folder = tmp_path / "src"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def load(text, name="script_under_test.py", **changes):
        (folder / name).write_text(text)
        config = WorkerConfig(
            name="w",
            environment=None,
            file=tmp_path / "wrangler.json",
            root=tmp_path,
            main=folder / name,
            compatibility_date="2026-05-01",
            compatibility_flags=frozenset(),
            flavour="trio",
            vars={},
            secrets={},
            bindings=(),
            crons=(),
            routes=(),
            limits=WorkerLimits(30_000, 1000, 30_000),
        )
        return load_script(replace(config, **changes))

    yield load
    for module in set(sys.modules) - known:
        if str(getattr(sys.modules[module], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[module]


def refusal(load, text, **changes):
    with pytest.raises(ScriptError) as caught:
        load(text, **changes)
    return caught.value


def test_syntax_error_names_file_and_line(load):
    error = refusal(load, "x = 1\nclass Default(:\n")
    assert "script_under_test.py, line 2" in str(error)
    assert "edge_runtime" not in error.detail


def test_missing_package_says_where_to_name_it(load):
    assert "[project] dependencies" in str(refusal(load, "import package_nobody_has\n"))


def test_import_by_the_name_of_the_folder_is_explained(load):
    assert "drop 'src.'" in str(refusal(load, "import src.other\n"))


@pytest.mark.parametrize("text", ["import sys\nsys.exit(3)\n", "raise SystemExit(3)\n"])
def test_script_that_exits_at_import_is_reported_as_such(load, text):
    assert "sys.exit(3)" in str(refusal(load, text))


def test_error_at_import_carries_the_traceback_from_the_script_on(load):
    error = refusal(load, "def broken():\n    raise RuntimeError('no')\n\nbroken()\n")
    assert "RuntimeError: no" in str(error)
    assert "in broken" in error.detail
    assert "importlib" not in error.detail


def test_name_taken_by_another_module_is_refused(load):
    assert "rename the script" in str(refusal(load, "x = 1\n", name="json.py"))


def test_missing_file_is_refused(load):
    assert "not a file" in str(refusal(load, "", main=Path("/nowhere/entry.py")))


def test_script_may_have_modules_named_like_packages_of_the_runtime(load, tmp_path):
    before = sys.modules["edge_runtime"]
    (tmp_path / "src" / "bindings.py").write_text("MINE = 1\n")
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "bindings"}
    try:
        script = load("import bindings\nassert bindings.MINE == 1\n")
    finally:
        sys.modules.update(kept)
    assert script.module is not None
    assert sys.modules["edge_runtime"] is before


def test_variables_and_exports_are_there_after_loading(load):
    text = (
        "from workers import DurableObject, WorkerEntrypoint, env\n"
        "GREETING = env.GREETING\n"
        "class Default(WorkerEntrypoint):\n    async def fetch(self): ...\n"
        "class Room(DurableObject): ...\n"
    )
    script = load(text, vars={"GREETING": "hi"})
    assert script.module.GREETING == "hi"
    assert set(script.exports.objects) == {"Room"}
    assert script.exports.default is not None
