"""Running a program to its end, with all that it starts."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Finished(NamedTuple):
    """`code` is None for a program that did not end in time."""

    code: int | None
    out: str
    err: str


def finish(
    argv: Sequence[str], cwd: Path, *, seconds: float, env: Mapping[str, str] | None = None, stdin: str = ""
) -> Finished:
    """Run `argv` and return how it ended; raises `OSError` where it cannot be started."""
    import contextlib
    import subprocess

    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(env) if env is not None else None,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    code: int | None
    try:
        out, err = process.communicate(stdin.encode(), timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        code = None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if code is None:
        out, err = process.communicate()
    return Finished(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def find_program(name: str, folder: Path, python: str) -> str:
    """Return the path of a program: the project's own, the one beside its interpreter, that on PATH; "" for none."""
    places = [parent / venv / "bin" for parent in (folder, *folder.parents) for venv in (".venv", "venv", "env")]
    places += [Path(interpreter).parent for interpreter in (python, sys.executable) if interpreter]
    for place in places:
        found = shutil.which(name, path=str(place))
        if found:
            return found
    return shutil.which(name) or ""
