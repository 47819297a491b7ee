"""An OCI runtime that is runc, apart from what a machine without CAP_SYS_RESOURCE refuses: rlimits and OOM scores.

Podman is told of a script that calls this. Format: OCI runtime specification, config.json.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import lathe

_RESOURCE: Final = 24
_BUNDLE: Final = ("--bundle", "-b")
_PROCESS: Final = ("--process", "-p")


def is_needed() -> bool:
    """Return whether this process may not raise limits (capabilities(7))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return not int(line.split()[1], 16) >> _RESOURCE & 1
    return False


def write_script(path: Path) -> Path:
    """Write the script that Podman runs, and return its path."""
    root = Path(lathe.__file__).parent.parent
    code = f"import sys\nsys.path.append({str(root)!r})\nfrom lathe.evals.environments import runtime\nruntime.main()\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{os.path.realpath(sys.executable)} -IS\n{code}")
    path.chmod(0o755)
    return path


def main() -> None:
    """Take out what would be refused, and become runc."""
    given = sys.argv[1:]
    if {"create", "run", "restore"} & set(given):
        _mend(Path(_value(given, _BUNDLE) or ".", "config.json"), "process")
    elif "exec" in given and (process := _value(given, _PROCESS)):
        _mend(Path(process), "")
    program = shutil.which("runc") or "/usr/sbin/runc"
    os.execv(program, [program, *given])


def _value(given: Sequence[str], names: Sequence[str]) -> str:
    for number, word in enumerate(given):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else given[number + 1]
    return ""


def _mend(path: Path, key: str) -> None:
    whole: dict[str, Any] = json.loads(path.read_bytes())
    process = whole[key] if key else whole
    process.pop("rlimits", None)
    process.pop("oomScoreAdj", None)
    path.write_text(json.dumps(whole))
