from __future__ import annotations

import json
from pathlib import Path

import pytest
from worker_folders import KINDS, MINIMAL, worker, write

from edge_runtime.config.load import COMPATIBILITY_DATE_DEFAULT, load_config
from edge_runtime.config.model import Binding, Route, Secret, WorkerLimits
from edge_runtime.errors import ConfigError


def refused(root: Path, environment: str | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(root, KINDS, environment=environment)
    return caught.value


def test_whole_toml_is_read(tmp_path: Path) -> None:
    worker(
        tmp_path,
        """
compatibility_flags = ["python_workers"]
routes = ["example.com/api/*", { pattern = "shop.example.com", custom_domain = true }]
[vars]
GREETING = "hi"
NESTED = { a = [1, 2.5, true] }
[[kv_namespaces]]
binding = "NOTES"
id = "<YOUR_KV_NAMESPACE_ID>"
[triggers]
crons = ["*/1 * * * *", "0 17 * * sun"]
[limits]
cpu_ms = 100
[edge]
blocked_ms = 2000
""",
    )
    config = load_config(tmp_path, KINDS)
    assert config.name == "hello"
    assert config.file == tmp_path / "wrangler.toml"
    assert config.root == tmp_path
    assert config.main == tmp_path / "src" / "entry.py"
    assert config.compatibility_date == "2026-01-01"
    assert config.compatibility_flags == {"python_workers"}
    assert config.flavour == "asyncio"
    assert config.vars == {"GREETING": "hi", "NESTED": {"a": [1, 2.5, True]}}
    assert config.bindings == (Binding("drawers", "NOTES", ("hello", "<YOUR_KV_NAMESPACE_ID>")),)
    assert config.crons == ("*/1 * * * *", "0 17 * * sun")
    assert config.routes == (Route("example.com", "/api/"), Route("shop.example.com", "/"))
    assert config.limits == WorkerLimits(cpu_ms=100, subrequests=10_000, blocked_ms=2000)
    assert config.warnings == ()


def test_json_with_comments_is_the_same_as_toml(tmp_path: Path) -> None:
    text = '// a worker\n{"name": "hello", /* its */ "main": "src/entry.py", "compatibility_date": "2026-01-01",}'
    write(tmp_path, {"a/wrangler.jsonc": text, "a/src/entry.py": ""})
    worker(tmp_path / "b")
    first, second = load_config(tmp_path / "a", KINDS), load_config(tmp_path / "b", KINDS)
    assert (first.name, first.compatibility_date, first.limits) == (
        second.name,
        second.compatibility_date,
        second.limits,
    )


def test_json_wins_over_toml_with_a_warning(tmp_path: Path) -> None:
    worker(tmp_path)
    write(tmp_path, {"wrangler.jsonc": '{"name": "other", "main": "src/entry.py", "compatibility_date": "2026-01-01"}'})
    config = load_config(tmp_path, KINDS)
    assert config.name == "other"
    assert len(config.warnings) == 1
    assert '"wrangler.toml" beside it is not' in config.warnings[0]


def test_a_file_can_be_named(tmp_path: Path) -> None:
    worker(tmp_path)
    write(tmp_path, {"staging.toml": MINIMAL.replace("hello", "staging")})
    assert load_config(tmp_path / "staging.toml", KINDS).name == "staging"


@pytest.mark.parametrize(
    ("path", "found"), [("empty", "no configuration"), ("gone", "nothing there"), ("gone.toml", "no such file")]
)
def test_missing_configuration_is_reported(tmp_path: Path, path: str, found: str) -> None:
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / path).found == found


@pytest.mark.parametrize(
    ("more", "flavour"),
    [
        ("", "trio"),
        ('compatibility_flags = ["python_workers"]', "asyncio"),
        ('compatibility_flags = ["python_workers"]\n[edge]\nflavour = "trio"', "trio"),
        ('[edge]\nflavour = "asyncio"', "asyncio"),
    ],
)
def test_flavour_follows_the_flag_unless_set(tmp_path: Path, more: str, flavour: str) -> None:
    assert load_config(worker(tmp_path, more), KINDS).flavour == flavour


@pytest.mark.parametrize(
    ("more", "at", "found", "allowed"),
    [
        ("limits = 5", "limits", "the number 5", "a table of keys"),
        ("[limits]\ncpu_ms = 0", "limits.cpu_ms", "the number 0", "a whole number from 1 to 300000"),
        ("[limits]\ncpu_ms = 300001", "limits.cpu_ms", "the number 300001", "a whole number from 1 to 300000"),
        ('[limits]\ncpu_ms = "9"', "limits.cpu_ms", 'the string "9"', "a whole number from 1 to 300000"),
        ("[limits]\nsubrequests = 1.5", "limits.subrequests", "the number 1.5", "a whole number from 1 to 10000000"),
        ('[edge]\nflavour = "twisted"', "edge.flavour", 'the string "twisted"', 'one of "asyncio", "trio"'),
        ("[edge]\nblocked_ms = 1", "edge.blocked_ms", "the number 1", "a whole number from 1000 to 3600000"),
        ("vars = []", "vars", "an empty list", "a table of keys"),
        ("compatibility_flags = [1]", "compatibility_flags[0]", "the number 1", "a string"),
        ('triggers.crons = "x"', "triggers.crons", 'the string "x"', "a list"),
        (
            'triggers.crons = ["* * * * *", "60 * * * *"]',
            "triggers.crons[1]",
            '"60 * * * *", character 1: "60"',
            "minute 0-59 with * , - /",
        ),
        ("routes = [1]", "routes[0]", "the number 1", "a string or a table of keys"),
        ("[[kv_namespaces]]\nid = 'x'", "kv_namespaces[0].binding", 'nothing in a table with "id"', None),
        ("[[kv_namespaces]]\nbinding = 7", "kv_namespaces[0].binding", "the number 7", "a string"),
        ("[vars]\nWHEN = 2026-01-01", "vars.WHEN", "2026-01-01 (date)", "a string in quotes, for dates too"),
        ("[vars]\nMANY = inf", "vars.MANY", "the number inf", "a number that fits a 64-bit float"),
        ("[vars]\nBIG = '" + "x" * 5121 + "'", "vars.BIG", "5121 bytes", "at most 5120 bytes"),
        ("[vars]\nA = 1\n[[kv_namespaces]]\nbinding = 'A'", "vars.A", "the name of a binding (drawers)", None),
        ("kv_namespaces = [{binding = 'A'}, {binding = 'A'}]", "", "env.A twice (drawers and drawers)", None),
        ("env = []", "env", "an empty list", "a table of environments by name"),
        ("env.x = 1", "env.x", "the number 1", "a table of settings"),
        ("[assets]\ndirectory = '../up'", "assets.directory", '"../up"', None),
    ],
)
def test_wrong_value_is_refused_with_its_place(
    tmp_path: Path, more: str, at: str, found: str, allowed: str | None
) -> None:
    error = refused(worker(tmp_path, more))
    assert (error.file, error.at, error.found) == (str(tmp_path / "wrangler.toml"), at, found)
    assert allowed is None or error.allowed == allowed


@pytest.mark.parametrize(
    ("changed", "at", "found"),
    [
        ({"name": None}, "name", "nothing"),
        ({"name": "Hello"}, "name", '"Hello"'),
        ({"name": "../x"}, "name", '"../x"'),
        ({"name": "x" * 64}, "name", f'"{"x" * 57}..."'),
        ({"name": 3}, "name", "the number 3"),
        ({"main": None}, "main", "nothing"),
        ({"main": "src/index.ts"}, "main", '"src/index.ts"'),
        ({"main": "src/gone.py"}, "main", '"src/gone.py", which does not exist'),
        ({"main": "folder.py"}, "main", '"folder.py", that is no file'),
        ({"main": "../outside.py"}, "main", '"../outside.py"'),
        ({"main": "/etc/passwd.py"}, "main", '"/etc/passwd.py"'),
        ({"main": "a\0b.py"}, "main", '"a\\x00b.py" (lstat: embedded null character in path)'),
        ({"main": ""}, "main", '""'),
        ({"compatibility_date": "2026-1-1"}, "compatibility_date", '"2026-1-1"'),
        ({"compatibility_date": "2026-02-30"}, "compatibility_date", '"2026-02-30"'),
    ],
)
def test_wrong_name_main_or_date_is_refused(tmp_path: Path, changed: dict[str, object], at: str, found: str) -> None:
    values = {"name": "hello", "main": "src/entry.py", "compatibility_date": "2026-01-01"} | changed
    write(tmp_path, {"w/src/entry.py": "", "w/folder.py/x": "", "outside.py": ""})
    text = json.dumps({key: value for key, value in values.items() if value is not None})
    write(tmp_path, {"w/wrangler.json": text})
    error = refused(tmp_path / "w")
    assert error.at == at
    assert error.found.split(" (")[0] == found.split(" (")[0]


def test_linked_main_is_refused_only_when_it_leaves_the_folder(tmp_path: Path) -> None:
    worker(tmp_path / "w")
    write(tmp_path, {"elsewhere.py": "", "w/lib/entry.py": ""})
    main = tmp_path / "w" / "src" / "entry.py"
    main.unlink()
    main.symlink_to(tmp_path / "w" / "lib" / "entry.py")
    assert load_config(tmp_path / "w", KINDS).main == main
    main.unlink()
    main.symlink_to(tmp_path / "elsewhere.py")
    assert "a link to" in refused(tmp_path / "w").found


def test_folder_reached_through_a_link_is_no_escape(tmp_path: Path) -> None:
    worker(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert load_config(tmp_path / "link", KINDS).root == tmp_path / "link"


def test_assets_alone_need_no_main(tmp_path: Path) -> None:
    write(tmp_path, {"wrangler.toml": 'name = "site"\ncompatibility_date = "2026-01-01"\nassets.directory = "public"'})
    config = load_config(tmp_path, KINDS)
    assert config.main is None
    assert config.bindings == (Binding("pictures", "", tmp_path / "public"),)


def test_missing_date_is_a_fixed_one_and_warned_of(tmp_path: Path) -> None:
    write(tmp_path, {"wrangler.toml": 'name = "hello"\nmain = "e.py"', "e.py": ""})
    config = load_config(tmp_path, KINDS)
    assert config.compatibility_date == COMPATIBILITY_DATE_DEFAULT
    assert [COMPATIBILITY_DATE_DEFAULT in warning for warning in config.warnings] == [True]


@pytest.mark.parametrize(("more", "http1"), [("", "llhttp"), ('[edge]\nhttp1 = "hypercorn"', "hypercorn")])
def test_http1_is_served_by_the_own_loop_unless_hypercorn_is_asked_for(tmp_path: Path, more: str, http1: str) -> None:
    assert load_config(worker(tmp_path, more), KINDS).http1 == http1


@pytest.mark.parametrize(
    ("more", "warning"),
    [
        ("kv_namespace = []", 'kv_namespace: unknown key, ignored; did you mean "kv_namespaces"?'),
        ("compatibility-flags = []", 'did you mean "compatibility_flags"?'),
        ("[limits]\ncpu = 5", 'limits.cpu: unknown key, ignored; did you mean "cpu_ms"?'),
        ("[edge]\nzzz = 5", 'edge.zzz: unknown key, ignored; known here: "blocked_ms", "drift", "flavour"'),
        ("[triggers]\ncron = []", 'triggers.cron: unknown key, ignored; did you mean "crons"?'),
        (
            "[[kv_namespaces]]\nbinding = 'A'\nidd = 'x'",
            'kv_namespaces[0].idd: unknown key, ignored; did you mean "id"?',
        ),
        ("[[d1_databases]]\nbinding = 'DB'", "d1_databases: no kind of binding here provides this section, so env.DB"),
        ("queues.producers = [{binding = 'Q', queue = 'q'}]", "so env.Q will be missing"),
        ("durable_objects.bindings = [{name = 'D', class_name = 'C'}]", "so env.D will be missing"),
        ("build.command = 'make'", "build: ignored: custom build commands are not run"),
        ("triggers.crons = ['0 0 30 2 *']", "never fires"),
        ("triggers.crons = ['* * * * *', '* * * * *']", "it fires once"),
        ("routes = [{pattern = 'x.com/*', zon_name = 'x.com'}]", "routes[0].zon_name: unknown key"),
    ],
)
def test_unknown_and_ineffective_keys_are_warned_of(tmp_path: Path, more: str, warning: str) -> None:
    warnings = load_config(worker(tmp_path, more), KINDS).warnings
    assert len(warnings) == 1
    assert warning in warnings[0]
    assert warnings[0].startswith(str(tmp_path / "wrangler.toml"))


def test_ignored_keys_of_wrangler_are_accepted_silently(tmp_path: Path) -> None:
    more = "workers_dev = true\naccount_id = 'x'\nd1_databases = []\n[observability]\nenabled = true\n[dev]\nport = 1\n"
    assert load_config(worker(tmp_path, more), KINDS).warnings == ()


ENVIRONMENTS = """
vars = { A = "top", B = "top" }
compatibility_flags = ["python_workers"]
[assets]
directory = "public"
[limits]
cpu_ms = 7
[[kv_namespaces]]
binding = "NOTES"
[env.staging]
vars = { A = "staging" }
route = "/staging/*"
[env.named]
name = "own-name"
vars = { A = "1", B = "2" }
kv_namespaces = [{ binding = "NOTES", id = 5 }]
[env.broken]
limits = { cpu_ms = 0 }
"""


def test_environment_inherits_what_wrangler_lets_it_inherit(tmp_path: Path) -> None:
    config = load_config(worker(tmp_path, ENVIRONMENTS), KINDS, environment="staging")
    assert config.name == "hello-staging"
    assert config.environment == "staging"
    assert config.vars == {"A": "staging"}
    assert config.limits.cpu_ms == 7
    assert config.flavour == "asyncio"
    assert config.routes == (Route("*", "/staging/"),)
    assert config.bindings == (Binding("pictures", "", tmp_path / "public"),)
    assert any("kv_namespaces: environments do not inherit this" in warning for warning in config.warnings)
    assert any("so env.B will be missing" in warning for warning in config.warnings)


def test_errors_in_an_environment_name_it(tmp_path: Path) -> None:
    worker(tmp_path, ENVIRONMENTS)
    assert refused(tmp_path, "broken").at == "env.broken.limits.cpu_ms"
    assert refused(tmp_path, "named").at == "env.named.kv_namespaces[0].id"


def test_errors_in_inherited_keys_name_the_top_level(tmp_path: Path) -> None:
    worker(tmp_path, "limits = { cpu_ms = 0 }\nassets = { directory = '..' }\n[env.a]\nlimits.cpu_ms = 1\n[env.b]")
    assert refused(tmp_path, "a").at == "assets.directory"
    assert refused(tmp_path, "b").at == "limits.cpu_ms"


def test_unknown_environment_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    error = refused(worker(tmp_path, ENVIRONMENTS), "stagin")
    assert 'did you mean "staging"?' in error.found
    assert '"staging", "named", "broken"' in error.allowed


def test_environment_with_a_name_keeps_it(tmp_path: Path) -> None:
    worker(tmp_path, ENVIRONMENTS.replace("id = 5", "id = 'x'"))
    assert load_config(tmp_path, KINDS, environment="named").name == "own-name"


def test_secrets_override_vars(tmp_path: Path) -> None:
    worker(tmp_path, "[vars]\nA = 'plain'\nB = 'plain'", **{".dev.vars": "A=hidden\nC=more\n"})
    config = load_config(tmp_path, KINDS)
    assert config.vars == {"B": "plain"}
    assert config.secrets == {"A": "hidden", "C": "more"}
    assert "hidden" not in repr(config)
    assert all(isinstance(secret, Secret) for secret in config.secrets.values())


def test_only_required_secrets_are_loaded_when_declared(tmp_path: Path) -> None:
    worker(tmp_path, "[secrets]\nrequired = ['A', 'Z']", **{".dev.vars": "A=1\nB=2\n"})
    config = load_config(tmp_path, KINDS)
    assert config.secrets == {"A": "1"}
    assert len(config.warnings) == 1
    assert "env.Z will be missing" in config.warnings[0]


def test_too_many_vars_are_refused(tmp_path: Path) -> None:
    variables = "[vars]\n" + "\n".join(f"V{number} = 1" for number in range(128))
    assert len(load_config(worker(tmp_path, variables), KINDS).vars) == 128
    assert refused(worker(tmp_path, variables, **{".dev.vars": "X=1"})).found == "129 vars and secrets"
