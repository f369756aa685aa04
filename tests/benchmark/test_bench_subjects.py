"""What `edge bench` can be pointed at: folders, and folders in revisions."""

import json
import subprocess

import pytest

from edge_runtime.benchmark.subjects import subject
from edge_runtime.errors import ConfigError, UsageError


@pytest.fixture
def repository(tmp_path):
    """A worker in a folder of a repository, with one answer committed and another in the folder."""

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    folder = tmp_path / "apps" / "hello"
    folder.mkdir(parents=True)
    (folder / "wrangler.json").write_text(
        json.dumps({"name": "hello", "main": "entry.py", "compatibility_date": "2026-05-01"})
    )
    (folder / "entry.py").write_text("answer = 'old'\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    (folder / "entry.py").write_text("answer = 'new'\n")
    return tmp_path


def test_folder_is_measured_as_it_is_and_a_revision_as_it_was(repository):
    folder = repository / "apps" / "hello"
    with subject(str(folder), None) as now:
        assert (now.folder / "entry.py").read_text() == "answer = 'new'\n"
        assert now.config.name == "hello"
    with subject(f"{folder}@HEAD", None) as then:
        assert (then.folder / "entry.py").read_text() == "answer = 'old'\n"
        assert then.label == f"{folder}@HEAD"
        unpacked = then.folder
    assert not unpacked.exists()


def test_folder_whose_name_has_an_at_sign_is_a_folder(repository):
    (repository / "apps" / "hello").rename(repository / "apps" / "hello@home")
    with subject(str(repository / "apps" / "hello@home"), None) as found:
        assert found.config.name == "hello"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apps/none", "apps/none is no folder; allowed: DIR or DIR@REVISION"),
        ("apps/none@HEAD", "apps/none is no folder"),
        ("apps/hello@v9", "git archive says: .*v9"),
        ("later@HEAD", "revision HEAD has no folder later"),
    ],
)
def test_what_cannot_be_measured_says_why(repository, monkeypatch, text, message):
    (repository / "later").mkdir()
    monkeypatch.chdir(repository)
    with pytest.raises(UsageError, match=message), subject(text, None):
        pass


def test_folder_without_a_worker_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError), subject(str(tmp_path), None):
        pass
