"""What looking at a workspace costs, so that turns can be taken back, and what a kill in the middle of it leaves.

The workspace is a git repository of 50,000 files made for the purpose. A look with little changed is taken after twenty
files were changed; its baseline is the way of other agents, `git add -A` and `git write-tree` with an index of its own.
Kills: Lathe is killed at random in looks, in patches of eight files and in undos, started again, and whatever is not as
it was before or as it should be after is counted.

usage: undo.py [--check] [--json] [--files N] [--kills N]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import undo_kills
from measuring import median, table

from lathe.agent.undo import tracker_for

BARS = {"look_s": 0.5, "lost": 0, "kills": 200}
ROUNDS = 5


def make(ws: Path, files: int) -> None:
    """Make a repository of so many files in folders of a hundred, and commit it."""
    for number in range(files):
        folder = ws / f"d{number // 2500}" / f"e{number // 100}"
        if number % 100 == 0:
            folder.mkdir(parents=True)
        (folder / f"f{number % 100}.py").write_text(f"x = {number}\n" * 20)
    who = {f"GIT_{role}_{what}": "x@y" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run(["git", *arguments], cwd=ws, env={**os.environ, **who}, check=True)
    time.sleep(1.1)  # so that git does not doubt what it has just written
    subprocess.run(["git", "status", "-s"], cwd=ws, check=True, capture_output=True)


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that `act` takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def looks(folder: Path, files: int) -> dict[str, float]:
    """Return the seconds of the first look, of one with little changed, and of git's own way."""
    ws, home = folder / "ws", folder / "home"
    make(ws, files)
    tracker = tracker_for(home, str(ws), "t")
    first = timed(tracker.open)
    again = timed(tracker_for(home, str(ws), "t2").open)
    changed: list[float] = []
    baseline: list[float] = []
    index = {"GIT_INDEX_FILE": str(folder / "index"), "GIT_OBJECT_DIRECTORY": str(folder / "objects")}
    index["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = str(ws / ".git" / "objects")
    (folder / "objects").mkdir()
    (folder / "index").write_bytes((ws / ".git" / "index").read_bytes())

    def shadow() -> None:
        for arguments in (["add", "-A"], ["write-tree"]):
            environ = {**os.environ, **index}
            subprocess.run(["git", *arguments], cwd=ws, env=environ, check=True, capture_output=True)

    shadow()
    for number in range(ROUNDS):
        for at in range(20):
            (ws / "d0" / f"e{at}" / f"f{number}.py").write_text(f"changed {number}\n")
        changed.append(timed(lambda: tracker.observe("agent", "turn")))
        baseline.append(timed(shadow))
    return {"first_s": first, "again_s": again, "look_s": median(changed), "git_s": median(baseline)}


def main() -> int:
    """Measure, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=BARS["kills"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lathe-undo-") as folder:
        times = looks(Path(folder), options.files)
    with tempfile.TemporaryDirectory(prefix="lathe-undo-") as folder:
        outcome = undo_kills.run(Path(folder), options.kills)
    wrong = [f"{what}: {one}" for what, (_, found) in outcome.items() for one in found]
    figures = {**times, "kills": sum(hits for hits, _ in outcome.values()), "lost": len(wrong)}
    if options.json:
        print(json.dumps({"at": time.time(), "figures": figures, "wrong": wrong}))
    else:
        rows = [
            ["look with 20 of the files changed, s", f"{times['look_s']:.2f}", f"{times['git_s']:.2f}", "under 0.5"],
            ["first look at a repository, s", f"{times['first_s']:.2f}", "", ""],
            ["first look of a later thread, s", f"{times['again_s']:.2f}", "", ""],
            ["kills that hit; files lost or half written", f"{figures['kills']}; {figures['lost']}", "", "200; 0"],
        ]
        print(table([f"{options.files:,} files", "Lathe", "git add -A, write-tree", "bar"], rows))
        print("\n".join(wrong))
    return int(options.check and (bool(wrong) or times["look_s"] >= BARS["look_s"]))


if __name__ == "__main__":
    sys.exit(main())
