"""The tracker and the plan on what is hard to reach from outside: git's index and filters, limits, merges, logs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lathe.protocol.errors import StorageError
from lathe.store import undo
from lathe.store.git_index import read_index
from lathe.store.scan import NOT_KEPT
from lathe.store.undo import Observed, Tracker, read_log, root_folder
from lathe.store.undo_plan import merge_texts, plan_undo


def git(ws: Path, *arguments: str) -> str:
    who = {f"GIT_{role}_{what}": "x@y" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", *arguments], cwd=ws, env={**os.environ, **who}, check=True, capture_output=True)
    return done.stdout.decode()


def repository(ws: Path, files: dict[str, str]) -> None:
    ws.mkdir()
    for name, text in files.items():
        (ws / name).parent.mkdir(parents=True, exist_ok=True)
        (ws / name).write_text(text)
        os.utime(ws / name, ns=(10**18, 10**18))  # old enough not to be racy
    git(ws, "init", "-q")
    git(ws, "add", "-A")


def tracker(tmp_path: Path, ws: Path) -> Tracker:
    one = Tracker(str(ws), root_folder(tmp_path / "home", str(ws)), tmp_path / "log")
    one.open()
    return one


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_gits_index_is_read_as_git_reads_it(version: str, tmp_path: Path) -> None:
    ws = tmp_path / "ws"
    repository(ws, {f"deep/er/f{number}": f"{number}\n" for number in range(300)} | {"ä\tb": "odd", "later": "x"})
    git(ws, "update-index", "--index-version", version)
    if version == "3":
        git(ws, "add", "-N", "later")
    listed = git(ws, "ls-files", "-z", "--format=%(objectname) %(path)").split("\0")[:-1]
    found = {f"{one.oid} {os.fsdecode(path)}" for path, one in read_index(ws / ".git" / "index").items()}
    assert len(found) == 302
    assert found == set(listed)
    (ws / ".git" / "index").write_bytes(b"DIRC\0\0\0\2\0\0\0\x09 torn")
    assert read_index(ws / ".git" / "index") == {}
    assert read_index(ws / "nowhere") == {}


def test_what_git_holds_is_not_kept_twice(tmp_path: Path) -> None:
    ws = tmp_path / "ws"
    repository(ws, {"a": "a\n", "b": "b\n"})
    (ws / "new").write_text("new\n")
    one = tracker(tmp_path, ws)
    assert {path: one.known[path].content[:1] for path in (b"a", b"b", b"new")} == {
        b"a": b"g",
        b"b": b"g",
        b"new": b"b",
    }
    assert [one.read(one.known[path]) for path in (b"a", b"new")] == [b"a\n", b"new\n"]


def test_what_git_holds_in_another_form_is_kept_as_it_is(tmp_path: Path) -> None:
    ws = tmp_path / "ws"
    repository(ws, {".gitattributes": "* text=auto\n*.x filter=secret\n"})
    (ws / "dos.txt").write_bytes(b"one\r\ntwo\r\n")
    git(ws, "add", "-A")
    assert tracker(tmp_path, ws).known[b"dos.txt"].content[:1] == b"b"
    (ws / ".gitattributes").write_text("* text=auto\n")
    git(ws, "add", "-A")
    one = tracker(tmp_path, ws)
    assert one.read(one.known[b"dos.txt"]) == b"one\r\ntwo\r\n"


def test_a_file_that_changes_within_one_tick_of_the_clock_is_seen(tmp_path: Path) -> None:
    ws = tmp_path / "ws"
    ws.mkdir()
    one = tracker(tmp_path, ws)
    for number in range(50):
        (ws / "a").write_text(f"{number:04}")
        one.observe("agent", "t")
        assert one.read(one.known[b"a"]) == f"{number:04}".encode()


def test_what_tools_make_again_is_left_out_unless_git_knows_it(tmp_path: Path) -> None:
    ws = tmp_path / "ws"
    repository(ws, {"kept/node_modules/x/a.js": "1\n"})
    (ws / "node_modules").mkdir()
    (ws / "node_modules" / "b.js").write_text("2\n")
    known = tracker(tmp_path, ws).known
    assert b"kept/node_modules/x/a.js" in known
    assert b"node_modules" not in known


def test_what_is_too_large_or_cannot_be_read_is_said_to_be_unkept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(undo, "LARGEST_FILE", 10)
    ws = tmp_path / "ws"
    (ws / "build").mkdir(parents=True)
    (ws / "large").write_text("x" * 11)
    (ws / "build" / "large").write_text("x" * 11)
    os.mkfifo(ws / "pipe")
    one = tracker(tmp_path, ws)
    assert one.unkept() == [b"large"]
    assert one.known[b"large"].content == NOT_KEPT
    (ws / "large").unlink()
    one.observe("agent", "t")
    plan = plan_undo(read_log(tmp_path / "log"), ["t"], one.known, one.read, one.add)
    assert [(conflict.path, conflict.why) for conflict in plan.conflicts] == [
        (b"large", "it was too large to be kept, or could not be read")
    ]


def test_a_log_that_was_torn_is_read_up_to_there(tmp_path: Path) -> None:
    ws, log = tmp_path / "ws", tmp_path / "log"
    ws.mkdir()
    one = tracker(tmp_path, ws)
    for number in range(3):
        (ws / str(number)).write_text("x")
        one.observe("agent", "t")
    whole = log.read_bytes()
    for cut in range(len(whole)):
        log.write_bytes(whole[:cut])
        assert len(read_log(log)) < 3
    log.write_bytes(whole)
    assert [type(record) for record in read_log(log)] == [Observed] * 3


def test_a_store_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    (tmp_path / "ws").mkdir()
    with pytest.raises(StorageError, match="nothing could be undone"):
        tracker(tmp_path, tmp_path / "ws")


@pytest.mark.parametrize(
    ("ours", "base", "theirs", "merged"),
    [
        (b"mine\n", b"base\n", b"theirs\n", None),
        (b"1\n2\n3\n4\nmine\n", b"one\n2\n3\n4\n5\n", b"1\n2\n3\n4\n5\n", b"1\n2\n3\n4\nmine\n"),
        (b"one\n2\n3\n4\nmine\n", b"one\n2\n3\n4\n5\n", b"1\n2\n3\n4\n5\n", b"1\n2\n3\n4\nmine\n"),
        (b"\0mine", b"\0base", b"\0theirs", None),
    ],
)
def test_texts_are_merged_where_changes_do_not_touch(
    ours: bytes, base: bytes, theirs: bytes, merged: bytes | None
) -> None:
    assert merge_texts(ours, base, theirs) == merged
