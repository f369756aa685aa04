from __future__ import annotations

import gzip
import io
import os
import tarfile
from functools import partial

import pytest
import trio
from edge_process import PATIENCE_S
from fake_isolates import HELLO, write_worker

from edge_runtime.errors import EdgeError, LimitExceeded, ScriptError, StoreCorrupt
from edge_runtime.supervisor import admin_client, bundle
from edge_runtime.supervisor.admin_client import AdminRefused, NoServer
from edge_runtime.supervisor.bundle import BadBundle, pack, unpack, version_of
from edge_runtime.supervisor.data_dir import DataDirectory
from edge_runtime.supervisor.deployments import Deployments


def named(name):
    return f"def handle(path):\n    return '{name} ' + path\n"


def archive(*entries):
    """A gzipped tar of (name, content) pairs and ready-made TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                tar.addfile(info, io.BytesIO(entry[1]))
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def test_bundle_holds_the_workers_own_files_and_the_secrets_closed(tmp_path):
    folder = write_worker(tmp_path / "w", HELLO)
    (folder / ".dev.vars").write_text("KEY=secret")
    (folder / "public" / "img").mkdir(parents=True)
    (folder / "public" / "img" / "a.png").write_bytes(b"png")
    for ignored in (".venv", "node_modules", ".edge", "__pycache__", ".git", "public/__pycache__"):
        (folder / ignored).mkdir()
        (folder / ignored / "file").write_text("no")
    (folder / "link").symlink_to("/etc/passwd")
    unpack(pack(folder), tmp_path / "out")
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert found == [".dev.vars", "entry.py", "public/img/a.png", "wrangler.json"]
    assert (tmp_path / "out" / ".dev.vars").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out" / "entry.py").read_text() == HELLO


def test_version_is_the_content_and_nothing_else(tmp_path):
    one, two = write_worker(tmp_path / "one", HELLO), write_worker(tmp_path / "two", HELLO)
    os.utime(two / "entry.py", (1, 1))
    assert version_of(pack(one)) == version_of(pack(two))
    (two / "entry.py").write_text(HELLO + "#")
    assert version_of(pack(one)) != version_of(pack(two))


TRICKS = (
    *("nothing", "garbage", "no tar", "cut short", "empty", "up", "up from inside", "absolute", "double slash", "dot"),
    *("backslash", "twice", "file then folder", "folder then file", "link", "hard link", "fifo", "device", "folder"),
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        gzip.compress(b"no tar inside"),
        archive(("entry.py", b"x"))[:-20],
        archive(),
        archive(("../up", b"x")),
        archive(("a/../../up", b"x")),
        archive(("/absolute", b"x")),
        archive(("a//b", b"x")),
        archive(("./a", b"x")),
        archive(("a\\b", b"x")),
        archive(("a", b"x"), ("a", b"y")),
        archive(("a", b"x"), ("a/b", b"y")),
        archive(("a/b", b"x"), ("a", b"y")),
        archive(special("link", tarfile.SYMTYPE, "/etc"), ("link/passwd", b"x")),
        archive(("a", b"x"), special("hard", tarfile.LNKTYPE, "a")),
        archive(special("fifo", tarfile.FIFOTYPE)),
        archive(special("device", tarfile.CHRTYPE)),
        archive(special("folder", tarfile.DIRTYPE)),
    ],
    ids=TRICKS,
)
def test_tricks_in_a_bundle_are_refused_and_write_nothing_outside(tmp_path, data):
    with pytest.raises(BadBundle):
        unpack(data, tmp_path / "in" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def test_bundle_that_grows_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "BUNDLE_UNPACKED_MAX", 1000)
    with pytest.raises(LimitExceeded):
        unpack(archive(("a", b"x" * 600), ("b", b"x" * 600)), tmp_path / "out")
    monkeypatch.setattr(bundle, "BUNDLE_FILES_MAX", 2)
    with pytest.raises(LimitExceeded):
        unpack(archive(*((str(number), b"") for number in range(3))), tmp_path / "files")


@pytest.fixture
def deployments(tmp_path):
    directory = DataDirectory(tmp_path / "data")
    with directory.lock():
        yield Deployments(directory.deployments)


def deploy(deployments, folder, environment=None):
    version, _ = deployments.receive(pack(folder))
    return deployments.keep("w", version, environment)


def test_only_what_was_made_current_is_restored(deployments, tmp_path):
    first = deploy(deployments, write_worker(tmp_path / "w", HELLO), "staging")
    assert list(deployments.current()) == []
    deployments.make_current(first)
    second = deploy(deployments, write_worker(tmp_path / "w", HELLO + "#"))
    assert list(deployments.current()) == [first]
    deployments.discard(second)
    assert not second.folder.exists()
    assert list(deployments.current()) == [first]
    assert first.environment == "staging"


def test_same_bundle_again_is_the_same_version(deployments, tmp_path):
    folder = write_worker(tmp_path / "w", HELLO)
    first = deploy(deployments, folder)
    deployments.make_current(first)
    again = deploy(deployments, folder)
    assert again == first
    deployments.discard(again)  # current, so it stays
    assert list(deployments.current()) == [first]


def test_old_versions_are_removed_and_recent_ones_kept(deployments, tmp_path):
    for number in range(8):
        deployment = deploy(deployments, write_worker(tmp_path / "w", HELLO + f"# {number}"))
        os.utime(deployment.folder, (number, number))
        deployments.make_current(deployment)
        deployments.remove_old("w", ())
    kept = [path for path in deployment.folder.parent.iterdir() if path.is_dir()]
    assert len(kept) == 5
    assert deployment.folder in kept


def test_versions_that_are_needed_stay_however_old(deployments, tmp_path):
    versions = []
    for number in range(8):
        deployment = deploy(deployments, write_worker(tmp_path / "w", HELLO + f"# {number}"), "staging")
        os.utime(deployment.folder, (number, number))
        versions.append(deployment)
    deployments.make_current(versions[1])
    deployments.remove_old("w", {versions[0].version})
    assert [deployments.find("w", each.version) for each in versions] == [
        *versions[:2],
        None,
        *versions[3:],
    ]
    deployments.discard(versions[0], {versions[0].version})
    assert deployments.find("w", versions[0].version) == versions[0]
    deployments.discard(versions[0])
    assert deployments.find("w", versions[0].version) is None


@pytest.mark.parametrize("pointer", [b"", b"{", b'{"version": 1}', b'{"version": "gone", "environment": null}'])
def test_broken_pointer_is_named(deployments, tmp_path, pointer):
    deployment = deploy(deployments, write_worker(tmp_path / "w", HELLO))
    (deployment.folder.parent / "current").write_bytes(pointer)
    with pytest.raises(StoreCorrupt, match="current"):
        list(deployments.current())


async def ask(function, *args):
    return await trio.to_thread.run_sync(partial(function, *args))


async def test_deployed_worker_serves_and_is_restored_at_the_next_start(serve, tmp_path):
    data = tmp_path / "data"
    folder = write_worker(tmp_path / "w", named("first"), "counter")
    async with serve(development=False) as server:
        assert (await server.get("/x"))[0] == 404
        deployed = await ask(admin_client.deploy, data, folder)
        assert deployed.name == "counter"
        assert await server.get("/x") == (200, "first /x")
        (folder / "entry.py").write_text(named("second"))
        deployed = await ask(admin_client.deploy, data, folder)
        assert await server.get("/x") == (200, "second /x")
        (status,) = await ask(admin_client.list_workers, data)
        assert (status["name"], status["version"], status["state"]) == ("counter", deployed.version, "serving")
    (deployment,) = Deployments(DataDirectory(data).deployments).current()
    assert (deployment.worker, deployment.version) == ("counter", deployed.version)


async def test_restored_deployments_are_served(serve, tmp_path):
    directory = DataDirectory(tmp_path / "data")
    with directory.lock():
        deployments = Deployments(directory.deployments)
        for name in ("one", "two"):
            version, _ = deployments.receive(pack(write_worker(tmp_path / name, named(name), name)))
            deployments.make_current(deployments.keep(name, version, None))
    async with serve(development=False) as server:
        assert await server.get("/x", "two.localhost") == (200, "two /x")
        assert await server.get("/x", "one.localhost") == (200, "one /x")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("raise RuntimeError('no luck')", "no luck"),
        ("import os; os._exit(1)", "ended the process"),
        ("def start(isolate): raise SystemExit(1)", "cannot start worker"),
    ],
)
async def test_version_that_does_not_start_is_refused_and_the_old_one_serves(serve, tmp_path, script, said):
    data = tmp_path / "data"
    async with serve(development=False) as server:
        first = await ask(admin_client.deploy, data, write_worker(tmp_path / "w", named("first")))
        with pytest.raises(EdgeError, match=said):
            await ask(admin_client.deploy, data, write_worker(tmp_path / "w", script))
        assert await server.get("/x") == (200, "first /x")
        with pytest.raises(EdgeError, match=said):
            await ask(admin_client.deploy, data, write_worker(tmp_path / "other", script, "other"))
        assert [worker["name"] for worker in await ask(admin_client.list_workers, data)] == ["w"]
    (deployment,) = Deployments(DataDirectory(data).deployments).current()
    assert deployment.version == first.version


async def test_traceback_of_a_refused_version_reaches_whoever_deploys(serve, tmp_path):
    async with serve(development=False):
        with pytest.raises(ScriptError) as caught:
            await ask(admin_client.deploy, tmp_path / "data", write_worker(tmp_path / "w", "1 / 0"))
        assert "ZeroDivisionError" in caught.value.detail


async def test_requests_during_deploys_are_all_answered(serve, tmp_path):
    data = tmp_path / "data"
    folder = write_worker(tmp_path / "w", named("v"))
    async with serve(development=False, grace_s=PATIENCE_S) as server:
        await ask(admin_client.deploy, data, folder)
        answers, deploying = [], True

        async def client():
            while deploying:
                answers.append(await server.get("/x"))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(client)
            for number in range(3):
                (folder / "entry.py").write_text(named("v") + f"# {number}")
                await ask(admin_client.deploy, data, folder)
            deploying = False
        assert set(answers) == {(200, "v /x")}


async def test_folder_of_the_server_cannot_be_deployed_over(serve, tmp_path):
    folder = write_worker(tmp_path / "w", HELLO)
    async with serve(folder, development=False):
        with pytest.raises(AdminRefused, match="from a folder"):
            await ask(admin_client.deploy, tmp_path / "data", folder)


async def test_development_server_takes_no_deployments(serve, tmp_path):
    folder = write_worker(tmp_path / "w", HELLO)
    async with serve(folder) as server:
        with pytest.raises(AdminRefused, match="edge run"):
            await ask(admin_client.deploy, tmp_path / "data", folder)
        assert (await ask(admin_client.health, tmp_path / "data"))["development"] is True
        assert await server.get("/x") == (200, "hello /x")


async def test_timers_and_cron_pokes_reach_the_isolate(serve, tmp_path):
    data = tmp_path / "data"
    async with serve(write_worker(tmp_path / "w", HELLO, triggers={"crons": ["* * * * *"]})) as server:
        await ask(admin_client.poke_timers, data, "w")
        await ask(admin_client.run_scheduled, data, "w", "* * * * *", 60_000)
        assert await server.get("/pokes") == (
            200,
            "[TimersChanged(), RunScheduled(cron='* * * * *', scheduled_ms=60000)]",
        )
        await ask(admin_client.poke_timers, data, "unknown")
        with pytest.raises(AdminRefused, match="no worker named unknown"):
            await ask(admin_client.run_scheduled, data, "unknown", "* * * * *", 60_000)
        with pytest.raises(AdminRefused, match="no trigger"):
            await ask(admin_client.run_scheduled, data, "w", "0 0 * * *", 60_000)


async def test_admin_socket_survives_bad_requests_and_clients_that_do_not_read(serve, tmp_path):
    data = tmp_path / "data"
    with trio.fail_after(PATIENCE_S):
        async with serve(write_worker(tmp_path / "w", HELLO)) as server:
            stream = await trio.open_unix_socket(str(DataDirectory(data).admin_socket))
            await stream.send_all(b"\x00garbage\r\n\r\n")
            with pytest.raises(AdminRefused):
                await ask(admin_client._ask, data, "POST", "/workers/w/scheduled")
            with pytest.raises(AdminRefused):
                await ask(admin_client._ask, data, "GET", "/nothing")
            reader = await trio.open_unix_socket(str(DataDirectory(data).admin_socket))
            with trio.move_on_after(0.1):
                await reader.send_all(b"GET /workers HTTP/1.1\r\nHost: edge\r\n\r\n" * 2000)
            assert (await ask(admin_client.list_workers, data))[0]["name"] == "w"
    assert server.exit_code == 0
    await stream.aclose()
    await reader.aclose()


def test_without_a_server_it_is_said_and_poking_is_no_error(tmp_path):
    with pytest.raises(NoServer, match="edge run"):
        admin_client.list_workers(tmp_path)
    admin_client.poke_timers(tmp_path, "w")
