"""The home folder: where it is, and for whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from nova import paths
from nova.errors import ConfigError


def test_the_configured_home_wins_over_the_environment_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NOVA_HOME", raising=False)
    assert paths.home("") == tmp_path / ".cache/nova"
    monkeypatch.setenv("NOVA_HOME", "~/elsewhere")
    assert paths.home("") == tmp_path / "elsewhere"
    assert paths.home("/srv/nova") == Path("/srv/nova")


def test_a_relative_home_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.home("here") == tmp_path / "here"


def test_asking_for_a_folder_does_not_create_it(tmp_path: Path) -> None:
    home = paths.home(str(tmp_path / "nova"))
    folders = [paths.models(home), paths.keys(home), paths.run(home)]
    assert len({home, *folders}) == 4
    assert not home.exists()


def test_a_created_folder_and_its_new_parents_belong_to_this_user_alone(tmp_path: Path) -> None:
    folder = paths.ensure(paths.keys(tmp_path / "a" / "nova"))
    for one in (folder, folder.parent, folder.parent.parent):
        assert one.stat().st_mode & 0o077 == 0


def test_a_folder_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert paths.ensure(tmp_path) == tmp_path
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_file_in_the_way_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="NOVA_HOME"):
        paths.ensure(tmp_path / "file")
    with pytest.raises(ConfigError, match="NOVA_HOME"):
        paths.ensure(tmp_path / "file" / "keys")
