"""Lathe killed at random in the middle of a look at the workspace, of a patch and of an undo, and what is left then."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from trees import Tree, tree

from lathe.agent.undo import tracker_for, undo
from lathe.protocol.items import user_message
from lathe.store.journal import ItemsRecord, Journal, ThreadRecord, TurnEndRecord, TurnRecord
from lathe.store.threads import journal_path
from lathe.tools.patch_apply import apply_patch
from lathe.tools.patch_recovery import recover

THREAD, TURN = "thread-1", "turn-1"
ACTION = "rm -rf a/0 b; sed -i s/x/y/ a/1/*; mkdir c; mv a/2 c; chmod -R a-w a/3; git add -A; git commit -qm agent"
_EDITS = [f"*** Update File: a/{n}/f{n}.py\n@@\n-x = {n}\n+x = {n}{n}" for n in range(6)]
_EDITS += [
    "*** Add File: new/n.py\n+new",
    "*** Delete File: b/f0.py",
    "*** Update File: b/f1.py\n*** Move to: b/moved.py",
]
PATCH = "\n".join(["*** Begin Patch", *_EDITS, "*** End Patch", ""])


def build(folder: Path) -> Tree:
    """Make a workspace and a home with one turn in it, and return the tree from before the turn."""
    ws, home = folder / "ws", folder / "home"
    for top in ("a", "b"):
        for number in range(6):
            inner = ws / top / (str(number) if top == "a" else "")
            inner.mkdir(parents=True, exist_ok=True)
            (inner / f"f{number}.py").write_text(f"x = {number}\n")
    _shell("git init -q; git add -A; git commit -qm first; echo z > b/f2.py; echo own > own.txt; echo x > a/4/x", ws)
    before = tree(ws)
    journal = Journal.create(journal_path(home, THREAD), ThreadRecord(t=0, id=THREAD, cwd=str(ws), lathe="0"))
    journal.append(TurnRecord(0, TURN, "m", "p", {}), ItemsRecord((user_message("go"),)), TurnEndRecord(0, "completed"))
    journal.close()
    tracker = tracker_for(home, str(ws), THREAD)
    tracker.open()
    _shell(ACTION, ws)
    tracker.observe("agent", TURN)
    tracker.save()
    tracker.close()
    return before


def _shell(script: str, cwd: Path) -> None:
    who = {f"GIT_{role}_{what}": "x@y" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["bash", "-c", script], cwd=cwd, env={**os.environ, **who}, check=True, capture_output=True)


def killed(act: Callable[[], object], longest_s: float, choose: random.Random) -> bool:
    """Run `act` in a child that is killed after a random time; return whether it had not ended by then."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    time.sleep(choose.random() * longest_s)
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status > 0:
        raise RuntimeError("what was to be killed failed by itself")
    return status == -signal.SIGKILL


def kill_looks(folder: Path, rounds: int, choose: random.Random) -> tuple[int, list[str]]:
    """Kill looks; return how many were hit, and what was found wrong afterwards."""
    ws, home = folder / "ws", folder / "home"
    wrong: list[str] = []

    def look() -> None:
        tracker = tracker_for(home, str(ws), THREAD)
        tracker.open()
        for number in range(1000):
            (ws / f"made-{number % 7}").write_text(f"{os.getpid()} {number}\n" * (number % 90))
            tracker.observe("agent", TURN)
            tracker.save()

    hits = 0
    for _ in range(rounds):
        hits += killed(look, 0.08, choose)
        tracker = tracker_for(home, str(ws), THREAD)
        tracker.open()
        for path, entry in tracker.known.items():
            if entry.is_file and tracker.read(entry) != (ws / os.fsdecode(path)).read_bytes():
                wrong.append(f"the bytes of {os.fsdecode(path)} are not kept")
        tracker.close()
    return hits, wrong


def kill_patches(folder: Path, rounds: int, choose: random.Random) -> tuple[int, list[str]]:
    """Kill patches; return how many were hit, and what was found wrong after the next start."""
    source, notes = folder / "patched", folder / "notes"
    shutil.copytree(folder / "template", source / "0")
    old = _bytes(source / "0")
    apply_patch(PATCH, source / "0")
    new = _bytes(source / "0")
    hits, wrong = 0, []
    for number in range(1, rounds + 1):
        ws = source / str(number)
        shutil.copytree(folder / "template", ws)
        hits += killed(lambda ws=ws: apply_patch(PATCH, ws, notes=notes), 0.006, choose)  # type: ignore[misc]
        recover(notes)
        if _bytes(ws) not in (old, new):
            wrong.append(f"round {number}: {set(_bytes(ws).items()) ^ set(old.items())}")
    return hits, wrong


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kill_undos(folder: Path, rounds: int, choose: random.Random, before: Tree) -> tuple[int, list[str]]:
    """Kill undos; return how many were hit, and what was found wrong when the next one had ended."""
    ws, home = folder / "ws", folder / "home"
    kept = folder / "kept"
    kept.mkdir()
    for name in ("ws", "home"):
        subprocess.run(["cp", "-a", str(folder / name), str(kept / name)], check=True)
    journal = journal_path(home, THREAD)
    began = time.perf_counter()
    undo(home, journal)
    took = time.perf_counter() - began
    hits, wrong = 0, []
    for number in range(rounds):
        for name in ("ws", "home"):
            subprocess.run(["chmod", "-R", "u+w", str(folder / name)], check=True)
            shutil.rmtree(folder / name)
            subprocess.run(["cp", "-a", str(kept / name), str(folder / name)], check=True)
        hit = killed(lambda: undo(home, journal), took * 1.2, choose)
        hits += hit
        plan = home / "threads" / THREAD / "undo.plan"
        said = ""
        if hit and (plan.exists() or tree(ws) != before):
            said = f"plan {'left' if plan.exists() else 'not yet'}, then {undo(home, journal)}"
        if tree(ws) != before:
            after = tree(ws)
            differ = sorted(path for path in before | after if before.get(path) != after.get(path))
            wrong.append(f"round {number}, {'killed' if hit else 'not killed'}, {said}: {differ}")
    return hits, wrong


def run(folder: Path, rounds: int, seed: int = 1) -> dict[str, tuple[int, list[str]]]:
    """Kill a third of `rounds` each in looks, patches and undos; return the hits and what was wrong of each."""
    choose = random.Random(seed)
    before = build(folder)
    template = folder / "template"
    template.mkdir()
    for top in ("a", "b"):
        for number in range(6):
            inner = template / top / (str(number) if top == "a" else "")
            inner.mkdir(parents=True, exist_ok=True)
            (inner / f"f{number}.py").write_text(f"x = {number}\n")
    third = (rounds + 2) // 3
    return {
        "undo": kill_undos(folder, third, choose, before),
        "patch": kill_patches(folder, third, choose),
        "look": kill_looks(folder, third, choose),
    }
