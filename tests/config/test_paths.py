"""Where Lathe keeps things."""

from __future__ import annotations

from pathlib import Path

import pytest

from lathe.config import paths


def test_lathe_home_is_what_the_person_says(tmp_path: Path) -> None:
    assert paths.lathe_home({"LATHE_HOME": str(tmp_path), "HOME": "/h"}) == tmp_path


def test_folders_follow_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    home = {"HOME": "/h"}
    assert paths.lathe_home(home) == Path("/h/.local/share/lathe")
    assert paths.config_home(home) == Path("/h/.config/lathe")
    assert paths.cache_home(home) == Path("/h/.cache/lathe")
    given = {"XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "/c", "XDG_CACHE_HOME": "relative", **home}
    assert paths.lathe_home(given) == Path("/d/lathe")
    assert paths.config_home(given) == Path("/c/lathe")
    assert paths.cache_home(given) == Path("/h/.cache/lathe")


def test_macos_has_folders_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert paths.lathe_home({"HOME": "/h"}) == Path("/h/Library/Application Support/lathe")
    assert paths.cache_home({"HOME": "/h"}) == Path("/h/Library/Caches/lathe")


def test_the_root_of_a_project_is_its_repository_or_the_folder_itself(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert paths.project_root(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    (tmp_path / "a" / ".git").write_text("gitdir: elsewhere")
    assert paths.project_root(tmp_path / "a" / "b") == tmp_path / "a"
