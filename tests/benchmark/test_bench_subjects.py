"""What `edge bench` can be pointed at: folders, and folders in revisions."""

import json
import subprocess

import pytest

from edge_runtime.benchmark.subjects import subject
from edge_runtime.errors import ConfigError, UsageError


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    """A worker in a folder of a repository, with one answer committed and another in the folder."""

    folder = tmp_path / "apps" / "hello"
    folder.mkdir(parents=True)
    (folder / "wrangler.json").write_text(
        json.dumps({"name": "hello", "main": "entry.py", "compatibility_date": "2026-05-01"})
    )
    (folder / "entry.py").write_text("answer = 'old'\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "one")
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
        ("apps/hello@v9", 'apps/hello@v9: the repository .* has no revision "v9"; allowed: what git log takes'),
        ("apps/hello@", 'has no revision ""'),
        ("apps/hello@--output=x", 'has no revision "--output=x"'),
        ("later@HEAD", "revision HEAD has no folder later"),
    ],
)
def test_what_cannot_be_measured_says_why(repository, monkeypatch, text, message):
    (repository / "later").mkdir()
    monkeypatch.chdir(repository)
    with pytest.raises(UsageError, match=message), subject(text, None):
        pass


def test_secrets_that_git_does_not_have_come_with_a_revision(repository):
    folder = repository / "apps" / "hello"
    (folder / ".dev.vars").write_text("TOKEN=today\n")
    with subject(f"{folder}@HEAD", None) as then:
        assert dict(then.config.secrets) == {"TOKEN": "today"}


def test_links_that_lead_out_of_the_repository_do_not_hinder(repository):
    (repository / "apps" / "elsewhere").symlink_to("/etc/hostname")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "two")
    with subject(f"{repository / 'apps' / 'hello'}@HEAD", None) as then:
        assert (then.folder / "entry.py").read_text() == "answer = 'new'\n"


def test_wrong_configuration_in_a_revision_is_told_by_its_place_in_the_repository(repository):
    with pytest.raises(ConfigError) as caught, subject(f"{repository / 'apps'}@HEAD", None):
        pass
    assert caught.value.file == f"{repository}@HEAD/apps"


def test_folder_without_a_worker_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError), subject(str(tmp_path), None):
        pass
