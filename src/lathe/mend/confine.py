"""Running the project's tests where they can write nothing but the scratch copy, and reach no network."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from lathe.mend.workspace import Workspace
from lathe.sandbox import bubblewrap
from lathe.sandbox.mounts import plan
from lathe.sandbox.policy import SandboxPolicy

_PROBE_S = 10.0


def confined(workspace: Workspace, python: str) -> list[str]:
    """Return what comes before a command so that it runs confined; nothing where bubblewrap does not work.

    Inside another sandbox it often does not; then that one holds.
    """
    policy = SandboxPolicy(writable_roots=(str(workspace.temporary),))
    environment = Path(python).parent.parent
    readable = (str(Path(__file__).parents[2]), str(environment), sys.prefix, str(workspace.original))
    mounts = plan(policy, workspace.cwd, (), readable)
    program = bubblewrap.find_program()
    if program is None:
        return []
    fresh_proc = _works(program)
    if fresh_proc is None:
        return []
    given = bubblewrap.arguments(program, mounts, network=False, fresh_proc=fresh_proc)
    return [*given[: given.index("--chdir")], "--chdir", str(workspace.cwd), "--"]


@functools.cache
def _works(program: str) -> bool | None:
    """Return whether bubblewrap works with a fresh /proc, or only without; None where it does not."""
    import subprocess

    for fresh_proc in (True, False):
        command = [*bubblewrap.arguments(program, [], network=False, fresh_proc=fresh_proc), "true"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode == 0:
            return fresh_proc
    return None
