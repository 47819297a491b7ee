"""`make demo`: Lathe repairs a project whose tests fail, with no key and no network, in a scratch repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TASK = "Make the failing tests pass"


def main() -> int:
    scratch = Path(tempfile.mkdtemp(prefix="lathe-demo-"))
    project = scratch / "inventory"
    shutil.copytree(ROOT / "examples" / "inventory", project, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_", "GIT_"))},
        "LATHE_HOME": str(scratch / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    run(["git", "init", "-q", "-b", "main"], project, environ)
    run(["git", "add", "-A"], project, environ)
    identity = ["-c", "user.name=Demo", "-c", "user.email=demo@example.invalid"]
    run(["git", *identity, "commit", "-q", "-m", "Inventory, with three bugs"], project, environ)
    title("The suite before")
    before = suite(project, environ)
    lathe = [sys.executable, "-m", "lathe"]
    title(f'lathe exec -m mend -C {project.name} "{TASK}"')
    agent = subprocess.run([*lathe, "exec", "-m", "mend", "-C", str(project), TASK], env=environ, check=False)
    title("lathe diff")
    subprocess.run([*lathe, "diff", "--last"], cwd=project, env=environ, check=False)
    title("The suite after")
    after = suite(project, environ)
    if before == 0:
        print("demo: the suite was green before anything was done, so nothing was shown.", file=sys.stderr)
        return 1
    if agent.returncode != 0 or after != 0:
        print(f"demo: FAILED (lathe exec: exit {agent.returncode}, suite: exit {after}).", file=sys.stderr)
        return 1
    print(f"\ndemo: the suite is green. Look around in {project}.")
    return 0


def run(command: list[str], cwd: Path, environ: dict[str, str]) -> None:
    subprocess.run(command, cwd=cwd, env=environ, check=True)


def suite(project: Path, environ: dict[str, str]) -> int:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=no",
        "--no-summary",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
    ]
    return subprocess.run(command, cwd=project, env=environ, check=False).returncode


def title(text: str) -> None:
    print(f"\n\x1b[1m── {text}\x1b[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
