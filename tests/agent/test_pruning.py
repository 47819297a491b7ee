"""What is kept for undo stays bounded, and whoever needs it finds it."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import pytest

from lathe.agent.pruning import prune, prune_if_due
from lathe.agent.undo import tracker_for, undo
from lathe.protocol.errors import UsageError
from lathe.protocol.items import user_message
from lathe.store.journal import ItemsRecord, Journal, ThreadRecord, TurnEndRecord, TurnRecord
from lathe.store.threads import journal_path
from lathe.store.undo import hold

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from undo_kills import killed

DAY = 86400.0
SIZE = 300_000


def turn(home: Path, ws: Path, thread: str, days_ago: float) -> bytes:
    """Let a thread overwrite a file of its own; return what that held before."""
    ws.mkdir(exist_ok=True)
    before = os.urandom(SIZE)
    (ws / f"{thread}.bin").write_bytes(before)
    journal = Journal.create(journal_path(home, thread), ThreadRecord(t=0, id=thread, cwd=str(ws), lathe="0"))
    start = TurnRecord(0, f"turn-{thread}", "m", "p", {})
    journal.append(start, ItemsRecord((user_message("go"),)), TurnEndRecord(0, "completed"))
    journal.close()
    tracker = tracker_for(home, str(ws), thread)
    tracker.open()
    (ws / f"{thread}.bin").write_bytes(b"overwritten")
    tracker.observe("agent", f"turn-{thread}")
    tracker.save()
    tracker.close()
    then = time.time() - days_ago * DAY
    for path in (journal_path(home, thread), home / "threads" / thread / "undo.log"):
        os.utime(path, (then, then))
    return before


def stored(home: Path) -> int:
    return sum(path.stat().st_size for path in (home / "undo").rglob("*") if path.is_file())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_threads_that_nobody_touched_are_forgotten_and_others_are_not(home: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    before = {name: turn(home, one, name, days) for name, days in (("old", 40), ("new", 2), ("older", 90))}
    turn(home, other, "gone", 31)
    full = stored(home)
    assert prune(home)
    assert stored(home) < full - 3 * SIZE + 60_000
    assert len([path for path in (home / "undo").iterdir() if path.is_dir()]) == 1
    undo(home, journal_path(home, "new"))
    assert (one / "new.bin").read_bytes() == before["new"]
    for thread in ("old", "gone"):
        with pytest.raises(UsageError, match="is not kept any more"):
            undo(home, journal_path(home, thread))
    assert (one / "old.bin").read_bytes() == b"overwritten"


def test_the_oldest_go_first_where_there_is_too_much(home: Path, tmp_path: Path) -> None:
    ws = tmp_path / "ws"
    before = {f"t{days}": turn(home, ws, f"t{days}", days) for days in (5, 4, 3, 2, 1)}
    assert prune(home, most_bytes=3 * SIZE)
    assert stored(home) <= 3 * SIZE + 20_000
    with pytest.raises(UsageError, match="is not kept any more"):
        undo(home, journal_path(home, "t5"))
    undo(home, journal_path(home, "t1"))
    assert (ws / "t1.bin").read_bytes() == before["t1"]


def test_what_is_open_is_left_alone(home: Path, tmp_path: Path) -> None:
    ws, other = tmp_path / "ws", tmp_path / "other"
    before = {"a": turn(home, ws, "a", 90), "b": turn(home, other, "b", 90)}
    tracker = tracker_for(home, str(ws), "later")  # another thread at work in the same place
    tracker.open()
    journal = Journal.open(journal_path(home, "b"))
    full = stored(home)
    prune(home, most_bytes=0)
    assert stored(home) == full
    tracker.close()
    journal.close()
    for thread, place in (("a", ws), ("b", other)):
        undo(home, journal_path(home, thread))
        assert (place / f"{thread}.bin").read_bytes() == before[thread]


def test_a_kill_in_the_middle_loses_nothing_that_is_needed(home: Path, tmp_path: Path) -> None:
    ws, choose = tmp_path / "ws", random.Random(3)
    hits, took = 0, 0.0
    for number in range(12):
        before = turn(home, ws, f"new{number}", 1)
        for old in range(3):
            turn(home, ws, f"old{number}-{old}", 60)
        if number == 0:
            began = time.perf_counter()
            prune(home)
            took = time.perf_counter() - began
        else:
            hits += killed(lambda: prune(home), took, choose)
        undo(home, journal_path(home, f"new{number}"))
        assert (ws / f"new{number}.bin").read_bytes() == before
    assert hits > 2
    assert prune(home, moment_s=60)
    assert stored(home) < 30 * SIZE  # the 12 that are new, before and after, and what is there now


def test_it_is_done_once_a_day_and_not_in_a_new_home(home: Path, tmp_path: Path) -> None:
    turn(home, tmp_path / "ws", "old", 60)
    full = stored(home)
    prune_if_due(home)
    prune_if_due(home)
    assert stored(home) == full
    stamp = home / "undo" / "pruned"
    os.utime(stamp, (1, 1))
    prune_if_due(home)
    assert stored(home) < SIZE
    assert time.time() - stamp.stat().st_mtime < DAY


def test_a_store_that_goes_while_somebody_waits_for_it_is_made_anew(tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = hold(store)
    with pytest.raises(BlockingIOError):
        hold(store, alone=True)
    os.close(first)
    alone = hold(store, alone=True)
    store.rename(tmp_path / "gone")
    os.close(alone)
    again = hold(store)
    assert (store / "lock").exists()
    os.close(again)
