from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lathe.protocol.errors import UsageError
from lathe.store.baseline import baseline_tree, diff_since, keep_baseline, why_no_baseline


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    work = tmp_path / "a work:tree"
    work.mkdir()
    git(work, "init", "-q")
    (work / "a.txt").write_text("one\n")
    git(work, "add", "-A")
    git(work, "commit", "-qm", "x")
    return work


async def change(work: Path, folder: Path, name: str | bytes = "a.txt", line: bytes = b"two\n") -> bytes:
    """What the diff says after a line was added."""
    tree = await keep_baseline(work, folder)
    assert tree
    with open(os.fsencode(work) + b"/" + os.fsencode(name), "ab") as file:
        file.write(line)
    return await diff_since(work, folder, tree)


async def test_a_path_with_a_colon_and_a_space_is_no_obstacle(repository: Path, tmp_path: Path) -> None:
    assert b"+two" in await change(repository, tmp_path / "kept")


async def test_names_and_lines_that_are_not_utf_8_come_out_as_they_are(repository: Path, tmp_path: Path) -> None:
    assert b"+caf\xe9\n" in await change(repository, tmp_path / "kept", line=b"caf\xe9\n")
    assert b"b/x\xff\xfey" in await change(repository, tmp_path / "kept", b"x\xff\xfey")
    assert b'"b/a\\nb c"' in await change(repository, tmp_path / "kept", "a\nb c")


async def test_a_repository_without_commits_has_a_baseline(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "work")
    (tmp_path / "work" / "a.txt").write_text("one\n")
    assert b"+two" in await change(tmp_path / "work", tmp_path / "kept")


async def test_a_linked_worktree_a_submodule_and_a_sparse_checkout_have_one(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "linked"))
    assert b"+two" in await change(tmp_path / "linked", tmp_path / "kept1")
    git(tmp_path, "init", "-q", "above")
    git(tmp_path / "above", "submodule", "--quiet", "add", str(repository), "sub")
    assert b"+two" in await change(tmp_path / "above" / "sub", tmp_path / "kept2")
    (repository / "away").mkdir()
    (repository / "away" / "b.txt").write_text("b\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "y")
    git(repository, "sparse-checkout", "set", "--cone", "--sparse-index", "nothing")
    shown = await change(repository, tmp_path / "kept3")
    assert b"+two" in shown
    assert b"away" not in shown


async def test_a_run_that_was_killed_while_git_held_the_index_leaves_nothing_in_the_way(
    repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    assert b"+two" in await change(repository, folder)
    (folder / "index.lock").write_text("")
    assert b"+three" in await change(repository, folder, line=b"three\n")
    assert not [path for path in folder.iterdir() if path.name.startswith("index_")]


async def test_what_a_repository_names_as_a_program_is_not_started(repository: Path, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    program = f"touch '{mark}'; cat"
    hooks = repository / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "pre-commit"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{mark}'\n")
        (hooks / name).chmod(0o755)
    (repository / ".gitattributes").write_text("* filter=e diff=e\n*.x filter=dotted.name\n")
    (repository / "a.x").write_text("x\n")
    folder = tmp_path / "kept"
    for key in (
        *("filter.e.clean", "filter.e.smudge", "filter.e.process", "filter.dotted.name.clean", "core.fsmonitor"),
        *("diff.e.textconv", "diff.external", "diff.e.command", "core.pager", "core.sshCommand"),
    ):
        git(repository, "config", key, program)
    git(repository, "config", "filter.e.required", "true")
    git(repository, "config", "core.hooksPath", str(hooks))
    for line in (b"1\n", b"2\n", b"3\n"):
        assert b"+" + line in await change(repository, folder, line=line)
        assert b"+" + line in await change(repository, folder, "a.x", line=line)
    assert not mark.exists()


async def test_a_repository_that_claims_files_elsewhere_is_not_read(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("do not tell\n")
    git(repository, "config", "core.worktree", str(tmp_path))
    assert await keep_baseline(repository, tmp_path / "kept") is None
    assert "elsewhere" in await why_no_baseline(repository)


async def test_what_cannot_be_read_at_first_is_no_baseline_later(tmp_path: Path) -> None:
    work, folder = tmp_path / "work", tmp_path / "kept"
    work.mkdir()
    (work / "a.txt").write_text("one\n")
    assert await keep_baseline(work, folder) is None
    git(work, "init", "-q")
    assert await keep_baseline(work, folder) is None
    assert baseline_tree(folder) is None


@pytest.mark.parametrize("content", ["gitdir: /no/such/place\n", "nonsense", ""])
async def test_a_git_file_that_leads_nowhere_is_said_to(tmp_path: Path, content: str) -> None:
    (tmp_path / ".git").write_text(content)
    assert await keep_baseline(tmp_path, tmp_path / "kept") is None
    assert "can't read the repository" in await why_no_baseline(tmp_path)


async def test_without_git_there_is_no_baseline_and_it_says_why(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert await keep_baseline(repository, tmp_path / "kept") is None
    assert await why_no_baseline(repository) == "Git can't be started."


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_a_repository_of_another_user_is_not_trusted_and_it_says_why(repository: Path, tmp_path: Path) -> None:
    subprocess.run(["chown", "-R", "12345:12345", str(repository)], check=True)
    assert await keep_baseline(repository, tmp_path / "kept") is None
    assert "another user owns" in await why_no_baseline(repository)


async def test_a_home_folder_under_git_is_not_read_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    git(tmp_path, "init", "-q")
    (tmp_path / "private.txt").write_text("private\n")
    (tmp_path / "project").mkdir()
    assert await keep_baseline(tmp_path, tmp_path / "kept1") is None
    shown = await change(tmp_path / "project", tmp_path / "kept2", "a.txt")
    assert b"+two" in shown
    assert b"private" not in shown


async def test_a_repository_that_is_gone_is_a_sentence(repository: Path, tmp_path: Path) -> None:
    tree = await keep_baseline(repository, tmp_path / "kept")
    assert tree
    subprocess.run(["rm", "-rf", str(repository / ".git")], check=True)
    with pytest.raises(UsageError, match="in no git repository"):
        await diff_since(repository, tmp_path / "kept", tree)
