"""Installing requirements, with pip and wheels made here: nothing is fetched."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import trio
from edge_process import PATIENCE_S

from edge_runtime.supervisor.packages import InstallFailed, install_requirements, site_folder


def wheel(folder: Path, name: str, source: str = "ANSWER = 42\n") -> str:
    """Make a wheel with one module; its requirement."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", source)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return f"{name} @ {path.as_uri()}"


def slow_source_package(folder: Path) -> str:
    """A source tree whose build hangs after leaving its process id in `building`."""
    folder.mkdir()
    (folder / "backend.py").write_text(
        "import os, time\n"
        "def build_wheel(*args, **kwargs):\n"
        f"    with open({str(folder / 'building')!r}, 'w') as file:\n"
        "        file.write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
    )
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "slow"\nversion = "1"\n'
    )
    return f"slow @ {folder.as_uri()}"


async def test_nothing_to_install_makes_nothing(tmp_path: Path) -> None:
    assert await install_requirements([], tmp_path / "packages", print) is None
    assert not (tmp_path / "packages").exists()


async def test_requirements_are_installed_once_and_progress_is_told(tmp_path: Path) -> None:
    lines: list[str] = []
    requirement = wheel(tmp_path, "edge_test_package")
    site = await install_requirements([requirement], tmp_path / "packages", lines.append)
    assert site is not None
    assert (site / "edge_test_package.py").read_text() == "ANSWER = 42\n"
    assert any("Successfully installed" in line for line in lines)
    lines.clear()
    assert await install_requirements([requirement], tmp_path / "packages", lines.append) == site
    assert lines == []


async def test_failure_says_what_pip_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    requirement = f"broken @ {(tmp_path / 'broken-1.0-py3-none-any.whl').as_uri()}"
    with pytest.raises(InstallFailed, match=r"cannot install the worker's requirements \(broken @ ") as caught:
        await install_requirements([requirement], tmp_path / "packages", lambda line: None)
    assert caught.value.status != 0
    assert any("broken" in line for line in caught.value.lines)
    assert [path.suffix for path in (tmp_path / "packages").iterdir()] == [".lock"]


async def test_two_installers_take_turns(tmp_path: Path) -> None:
    requirement = wheel(tmp_path, "edge_test_package")
    installs: list[str] = []

    async def install() -> None:
        await install_requirements([requirement], tmp_path / "packages", installs.append)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(install)
        nursery.start_soon(install)
    assert sum("Successfully installed" in line for line in installs) == 1


async def test_rest_of_a_killed_installer_is_replaced(tmp_path: Path) -> None:
    requirement = wheel(tmp_path, "edge_test_package")
    site = site_folder([requirement], tmp_path / "packages")
    assert site is not None
    left = site.with_suffix(".partial")
    left.mkdir(parents=True)
    (left / "half.py").write_text("")
    assert await install_requirements([requirement], tmp_path / "packages", lambda line: None) == site
    assert not (site / "half.py").exists()
    assert not left.exists()


async def test_cancelling_ends_pip_with_its_children_and_leaves_nothing(tmp_path: Path) -> None:
    requirement = slow_source_package(tmp_path / "slow")
    building = tmp_path / "slow" / "building"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(install_requirements, [requirement], tmp_path / "packages", lambda line: None)
        with trio.fail_after(2 * PATIENCE_S):
            while not building.exists() or not building.read_text():
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert [path.suffix for path in (tmp_path / "packages").iterdir()] == [".lock"]
    pid = int(building.read_text())
    with trio.fail_after(PATIENCE_S):
        while alive(pid):
            await trio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_folder_depends_on_the_set_of_requirements_only(tmp_path: Path) -> None:
    assert site_folder(["a", "b"], tmp_path) == site_folder(["b", "a", "a"], tmp_path)
    assert site_folder(["a"], tmp_path) != site_folder(["a", "b"], tmp_path)
    assert site_folder([], tmp_path) is None
