"""A linked worktree: git's own files lie outside the workspace, and other worktrees use them at the same time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lathe.agent.undo import tracker_for
from lathe.store.undo import Tracker, read_log
from lathe.store.undo_apply import apply_steps
from lathe.store.undo_plan import plan_undo


def git(ws: Path, *arguments: str) -> str:
    who = {f"GIT_{role}_{what}": "x@y" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", *arguments], cwd=ws, env={**os.environ, **who}, check=True, capture_output=True)
    return done.stdout.decode().strip()


def worktrees(tmp_path: Path, *, bare: bool = False) -> tuple[Path, Path]:
    """A repository with two linked worktrees."""
    main = tmp_path / "main"
    main.mkdir()
    git(main, "init", "-q", "-b", "trunk")
    (main / "a.txt").write_text("one\n")
    git(main, "add", "-A")
    git(main, "commit", "-qm", "one")
    if bare:
        git(tmp_path, "clone", "-q", "--bare", str(main), "store")
        main = tmp_path / "store"
    for name in ("mine", "other"):
        git(main, "worktree", "add", "-q", "-b", f"{name}/topic", str(tmp_path / name))
    return tmp_path / "mine", tmp_path / "other"


def commit(ws: Path, text: str) -> str:
    (ws / "a.txt").write_text(text)
    git(ws, "commit", "-qam", text)
    return git(ws, "rev-parse", "HEAD")


def undo(tracker: Tracker, log: Path) -> list[bytes]:
    plan = plan_undo(read_log(log), ["t"], tracker.known, tracker.read, tracker.add, git=tracker.git)
    return [one.path for one in (*plan.conflicts, *apply_steps(tracker.root, plan.steps, tracker.open_content))]


def opened(tmp_path: Path, ws: Path) -> tuple[Tracker, Path]:
    tracker = tracker_for(tmp_path / "home", str(ws), "thread")
    tracker.open()
    return tracker, tmp_path / "home" / "threads" / "thread" / "undo.log"


def test_commits_and_what_is_staged_are_taken_back(tmp_path: Path) -> None:
    for bare in (False, True):
        place = tmp_path / str(bare)
        place.mkdir()
        mine, _ = worktrees(place, bare=bare)
        (mine / "b.txt").write_text("staged\n")
        git(mine, "add", "b.txt")
        before = git(mine, "rev-parse", "HEAD"), git(mine, "status", "--porcelain"), git(mine, "ls-files", "-s")
        tracker, log = opened(place, mine)
        assert tracker.known[b"a.txt"].content[:1] == b"g"  # of git's own object
        commit(mine, "two\n")
        git(mine, "reset", "-q", "--hard", "HEAD")
        tracker.observe("agent", "t")
        assert undo(tracker, log) == []
        after = git(mine, "rev-parse", "HEAD"), git(mine, "status", "--porcelain"), git(mine, "ls-files", "-s")
        assert after == before
        assert (mine / "b.txt").read_text() == "staged\n"


def test_the_commits_of_another_worktree_stay(tmp_path: Path) -> None:
    """Nobody knows who wrote what: what lies outside and is not this worktree's may be the work of another."""
    mine, other = worktrees(tmp_path)
    first = git(mine, "rev-parse", "HEAD")
    tracker, log = opened(tmp_path, mine)
    commit(mine, "two\n")
    theirs = commit(other, "theirs\n")
    git(other, "tag", "keep")
    main = commit(tmp_path / "main", "three\n")
    tracker.observe("agent", "t")
    assert undo(tracker, log) == []
    assert git(mine, "rev-parse", "HEAD") == first
    assert git(other, "rev-parse", "HEAD") == theirs == git(other, "rev-parse", "keep")
    assert git(other, "status", "--porcelain") == ""
    assert git(tmp_path / "main", "rev-parse", "HEAD") == main
    assert git(tmp_path / "main", "status", "--porcelain") == ""


def test_a_worktree_is_taken_for_one_only_where_the_repository_says_so(tmp_path: Path) -> None:
    mine, other = worktrees(tmp_path)
    (mine / ".git").write_text((other / ".git").read_text())
    assert not tracker_for(tmp_path / "home", str(mine), "one").git.outside
    (mine / ".git").write_text(f"gitdir: {tmp_path}\n")
    assert not tracker_for(tmp_path / "home", str(mine), "two").git.outside


def test_where_a_thread_began_is_known_when_the_link_is_gone(tmp_path: Path) -> None:
    mine, _ = worktrees(tmp_path)
    tracker, log = opened(tmp_path, mine)
    tracker.close()
    first = git(mine, "rev-parse", "HEAD")
    commit(mine, "two\n")
    tracker, log = opened(tmp_path, mine)
    tracker.observe("person", "t")
    (mine / ".git").unlink()
    tracker.observe("agent", "t")
    tracker.close()
    tracker, log = opened(tmp_path, mine)
    assert tracker.git.outside
    assert undo(tracker, log) == []
    assert git(mine, "rev-parse", "HEAD") != first
    assert git(mine, "status", "--porcelain") == ""
