import pytest
import trio

from edge_runtime.workers import environment
from edge_runtime.workers.environment import Env, bound_names, declare_bindings, fill_env, patch_env


@pytest.fixture
def env(monkeypatch):
    fresh = Env()
    monkeypatch.setattr(environment, "env", fresh)
    return fresh


def test_bindings_are_attributes(env):
    fill_env(env, {"FOO": "text", "LIMITS": {"a": 1}})
    assert env.FOO == "text"
    assert "FOO" in dir(env)


def test_a_missing_name_is_answered_with_the_nearest_and_all(env):
    fill_env(env, {"DATABASE": 1, "KV": 2})
    with pytest.raises(AttributeError, match=r"no binding or variable 'DATABSE'; did you mean env.DATABASE\? Av.*KV"):
        _ = env.DATABSE
    assert getattr(env, "OTHER", "default") == "default"
    with pytest.raises(AttributeError, match="Available: none"):
        _ = Env().X


def test_a_binding_can_be_kept_at_import_and_used_later(env):
    declare_bindings(env, ["KV"])
    kept = env.KV
    with pytest.raises(RuntimeError, match=r"env.KV cannot be used while the script is being imported"):
        kept.get("x")
    fill_env(env, {"KV": {"a": 1}})
    assert kept.get("a") == kept["a"] == 1
    assert env.KV == {"a": 1}
    assert bound_names(env) == {"KV"}


def test_patch_env_overrides_within_its_block(env):
    fill_env(env, {"A": 1, "B": 2})
    with patch_env({"A": 10}, NEW=3):
        with patch_env(A=100):
            assert env.A == 100
        assert (env.A, env.B, env.NEW) == (10, 2, 3)
    assert env.A == 1
    with pytest.raises(AttributeError):
        _ = env.NEW
    with pytest.raises(ZeroDivisionError), patch_env([("A", 5)]):
        _ = env.A / 0
    assert env.A == 1


async def test_patch_env_is_not_seen_by_other_tasks(env):
    fill_env(env, {"A": 1})
    seen = []
    patched, looked = trio.Event(), trio.Event()

    async def patching():
        with patch_env(A=2):
            patched.set()
            await looked.wait()
            seen.append(env.A)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(patching)
        await patched.wait()
        seen.append(env.A)
        looked.set()
    assert seen == [1, 2]
