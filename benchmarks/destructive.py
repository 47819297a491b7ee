"""How well destructive commands are told from everyday ones, without running either.

`commands/dangerous.txt` holds forms that destroy, `commands/ordinary.txt` what developers type all day. A dangerous one
is caught when any destructive act is found in it; an ordinary one is asked about when an act is found that no snapshot
of the workspace could take back, which is when a person is asked outside the sandbox. The baseline is a list of
patterns such as the hooks that people put before other agents have.

usage: destructive.py [--check] [--json] [--show]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from measuring import median, table

from lathe.guard.destructive import examine
from lathe.guard.targets import Ground

COMMANDS = Path(__file__).parent / "commands"
BARS = {"caught": 0.98, "asked": 0.01, "dangerous": 150, "ordinary": 300}
HOME = "/home/me"
PATTERNS = re.compile(
    r"rm\s+-[a-z]*r[a-z]*f|rm\s+-[a-z]*f[a-z]*r|git\s+reset\s+--hard|git\s+clean\s+-[a-z]*f|git\s+push\s+.*(?:--force|-f\b)"
    r"|git\s+checkout\s+(?:--\s+)?\.|git\s+branch\s+-D|\bdd\s+if=|\bmkfs|chmod\s+-R\s+777|>\s*/dev/sd|drop\s+(?:table|database)"
    r"|:\(\)\s*\{|find\s.*-delete|kubectl\s+delete|terraform\s+destroy|shutdown|reboot",
    re.IGNORECASE,
)


def commands(name: str) -> list[str]:
    """Return the commands of one list."""
    lines = (COMMANDS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line.replace("⏎", "\n") for line in lines if line and not line.startswith("#")]


@contextmanager
def workspace() -> Iterator[Path]:
    """A workspace with a few of the files that the commands name; not below /tmp, where everything may go."""
    with tempfile.TemporaryDirectory(dir=Path.home(), prefix="lathe-bench-") as folder:
        top = Path(folder, "a", "ws")
        (top / "src").mkdir(parents=True)
        for name in ("src/main.py", "src/a.py", "README.md"):
            (top / name).write_text("x\n")
        yield top


def main() -> int:
    """Measure, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--show", action="store_true", help="list what was judged wrongly")
    options = parser.parse_args()
    dangerous, ordinary = commands("dangerous"), commands("ordinary")
    with workspace() as top:
        ground, seen = Ground((str(top),), HOME), {"HOME": HOME, "USER": "me"}
        took: list[float] = []

        def lasting(command: str) -> tuple[bool, bool]:
            began = time.perf_counter()
            found = examine(command, ground, str(top), seen).found
            took.append(time.perf_counter() - began)
            return bool(found), any(danger.lasting for danger in found)

        missed = [command for command in dangerous if not lasting(command)[0]]
        asked = [command for command in ordinary if lasting(command)[1]]
    figures = {
        "dangerous": len(dangerous),
        "ordinary": len(ordinary),
        "caught": 1 - len(missed) / len(dangerous),
        "asked": len(asked) / len(ordinary),
        "command_ms": median(took) * 1000,
        "slowest_ms": max(took) * 1000,
        "patterns_caught": share(dangerous, PATTERNS.search),
        "patterns_asked": share(ordinary, PATTERNS.search),
    }
    if options.json:
        print(json.dumps({"at": time.time(), "figures": figures, "missed": missed, "asked": asked}))
    else:
        rows = [
            [
                "dangerous forms caught",
                f"{figures['caught']:.1%}",
                f"{figures['patterns_caught']:.1%}",
                "at least 98 %",
            ],
            [
                "ordinary commands asked about",
                f"{figures['asked']:.1%}",
                f"{figures['patterns_asked']:.1%}",
                "at most 1 %",
            ],
            ["forms, commands", f"{len(dangerous)}, {len(ordinary)}", "", "150, 300"],
            ["ms a command, median and slowest", f"{figures['command_ms']:.2f}, {figures['slowest_ms']:.0f}", "", ""],
        ]
        print(table(["figure", "Lathe", "patterns", "bar"], rows))
    if options.show:
        print("\n".join([f"missed: {one!r}" for one in missed] + [f"asked: {one!r}" for one in asked]))
    good = figures["caught"] >= BARS["caught"] and figures["asked"] <= BARS["asked"]
    enough = len(dangerous) >= BARS["dangerous"] and len(ordinary) >= BARS["ordinary"]
    return int(options.check and not (good and enough))


def share(texts: list[str], test: Callable[[str], object]) -> float:
    """Return the share of texts that pass a test."""
    return sum(bool(test(text)) for text in texts) / len(texts)


if __name__ == "__main__":
    sys.exit(main())
