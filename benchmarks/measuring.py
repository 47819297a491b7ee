"""What the benchmarks share: a process and its tree measured from outside, and tables."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")


class Measured(NamedTuple):
    """One run of a command: seconds of wall and CPU (all its reaped descendants), peak MB of the tree's RSS."""

    code: int
    began: float
    wall: float
    cpu: float
    peak_mb: float
    error: str


def measure(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit_s: float = 300, memory: bool
) -> Measured:
    """Run `command` to its end. With `memory` the tree is sampled every 5 ms, which costs CPU: not for timing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        command, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        began = time.perf_counter()
        sampler = _Sampler(process.pid) if memory else None
        try:
            output, error = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            output, error = process.communicate()
        wall = time.perf_counter() - began
        peak = sampler.stop() if sampler else 0.0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = (error or output).decode(errors="replace").strip()
    return Measured(process.returncode, began, wall, cpu, peak, said[-600:])


class _Sampler:
    def __init__(self, root: int) -> None:
        self._root = root
        self._peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self._peak / 2**20

    def _run(self) -> None:
        while not self._over.wait(0.005):
            self._peak = max(self._peak, _tree_rss(self._root))


def _tree_rss(root: int) -> int:
    """Return the sum of the resident bytes of `root` and all below it, shared pages counted in each.

    A child between `vfork` and `exec` is its parent's memory under a second name, and is not counted: it shows
    as a child whose figures are all equal to the parent's.
    """
    total = 0
    waiting: list[tuple[int, str]] = [(root, "")]
    while waiting:
        pid, parent = waiting.pop()
        try:
            figures = Path(f"/proc/{pid}/statm").read_text()
            if figures != parent:
                total += int(figures.split()[1]) * PAGE
            for task in os.listdir(f"/proc/{pid}/task"):
                children = Path(f"/proc/{pid}/task/{task}/children").read_text()
                waiting += [(int(child), figures) for child in children.split()]
        except (OSError, IndexError):
            continue
    return total


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [
        "| " + " | ".join(header) + " |",
        "|" + "|".join("---" if i == 0 else "---:" for i in range(len(header))) + "|",
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
