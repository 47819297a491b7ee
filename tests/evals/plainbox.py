"""A place for one task's files, solution and tests: bubblewrap over this machine's `/usr`, everything else its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lathe.evals.formats.rewards import read_rewards
from lathe.evals.task import Task

_LINKS = ("bin", "sbin", "lib", "lib64")


class PlainBox:
    """A task's plain environment, below a folder of this machine."""

    def __init__(self, task: Task, root: Path) -> None:
        self.task, self.root = task, root
        for name in ("usr", "dev", "proc", "tmp", "etc", "root", "logs/verifier"):
            (root / name).mkdir(parents=True)
        for name in _LINKS:
            if Path("/", name).is_symlink():
                (root / name).symlink_to(Path("/", name).readlink())
        for here, there in task.environment.files:
            self.put(here, there)

    def at(self, there: str) -> Path:
        return self.root / there.lstrip("/")

    def put(self, here: Path, there: str) -> None:
        target = self.at(there)
        target.parent.mkdir(parents=True, exist_ok=True)
        if here.is_dir():
            shutil.copytree(here, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(here, target)

    def run(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        words = [
            "bwrap",
            "--bind",
            str(self.root),
            "/",
            "--ro-bind",
            "/usr",
            "/usr",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
        ]
        words += ["--unshare-all", "--die-with-parent", "--clearenv"]
        given = {"PATH": "/usr/bin:/bin", "HOME": "/root", **self.task.environment.env, **(env or {})}
        for name, value in given.items():
            words += ["--setenv", name, value]
        words += ["--chdir", self.task.environment.workdir or "/", "--", *command]
        return subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=110, check=False)

    def solve(self) -> str:
        """Run the oracle's script; return what it printed."""
        assert self.task.solution is not None
        self.put(self.task.solution, "/solution")
        done = self.run(["bash", "/solution/solve.sh"], self.task.solution_env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def reward(self) -> float:
        """Put the tests, run the verifier, and return what it gave."""
        spec = self.task.verifier
        assert spec.tests is not None
        shutil.rmtree(self.at("/tests"), ignore_errors=True)
        shutil.rmtree(self.at("/logs/verifier"))
        self.at("/logs/verifier").mkdir()
        self.put(spec.tests, "/tests")
        done = self.run(spec.command, spec.env)
        assert done.returncode == 0, done.stdout + done.stderr
        return read_rewards(self.at("/logs/verifier"))["reward"]
