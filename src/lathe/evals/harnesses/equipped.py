"""One of Lathe's environments as other harnesses want it: with Lathe in it, and the two outputs of a command apart."""

from __future__ import annotations

import os
import secrets
import shlex
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lathe.config.paths import cache_home
from lathe.evals.agents.programs import LIBRARIES, START, lathe_source, python_mounts, this_python
from lathe.evals.environments.base import Environment, EnvironmentMaker
from lathe.evals.environments.maker import open_maker
from lathe.evals.harnesses.invocation import FOLDER
from lathe.evals.task import Network

NO_LIMIT_S = 30 * 86_400.0
_APART = """(umask 077; : >"$0"); "$@" 2>"$0"; code=$?; printf %s {mark}; cat "$0"; rm -f "$0"; exit $code"""
"""Runs a command with its standard error behind a mark, for an environment gives both outputs as one."""


class Outcome(NamedTuple):
    """How a command ended; `killed` is the limit that ended it, see `Ran`."""

    code: int
    stdout: bytes
    stderr: bytes
    killed: str


class Equipped:
    """A started environment; `folder` is where commands begin, `owner` the number of whom they run as."""

    def __init__(self, place: Environment) -> None:
        self.place = place
        self.folder = "/"
        self.owner = ""

    async def start(self) -> None:
        """Have it ready, with this Lathe at `/opt/lathe/bin/lathe`; raise `EnvironmentFault`."""
        try:
            await self.place.start(python_mounts(cache_folder()))
            await self._place_program()
            said = await self.run(["/bin/sh", "-c", "pwd; id -u"])
            self.folder, _, self.owner = said.stdout.decode().strip().partition("\n")
        except BaseException:
            await self.place.stop()
            raise

    async def _place_program(self) -> None:
        source = str(lathe_source())
        paths = f"{shlex.quote(source)}${{PYTHONPATH:+:$PYTHONPATH}}"
        variables = f"LD_LIBRARY_PATH={shlex.quote(LIBRARIES)} PYTHONPATH={paths}"
        line = f'{variables} exec {shlex.quote(this_python())} -c {shlex.quote(START)} "$@"'
        with tempfile.TemporaryDirectory(prefix="lathe-room-") as folder:
            script = Path(folder, "lathe")
            script.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
            script.chmod(0o755)
            await self.place.put(script, f"{FOLDER}/bin/lathe")

    async def run(
        self,
        command: Sequence[str],
        *,
        cwd: str = "",
        env: Mapping[str, str] | None = None,
        user: str = "",
        timeout_s: float | None = None,
        stdin: bytes = b"",
        limit: int = 10 * 2**20,
        network: Network | None = None,
    ) -> Outcome:
        """Run a command to its end; of each output the last `limit` bytes are kept. Raises `EnvironmentFault`."""
        mark = secrets.token_hex(16)
        output = _Tail(2 * limit)
        ran = await self.place.run(
            ["/bin/sh", "-c", _APART.format(mark=mark), f"/tmp/.lathe-{mark}", *command],
            cwd=self.absolute(cwd) if cwd else "",
            env=env,
            user=user,
            timeout_s=timeout_s if timeout_s is not None else NO_LIMIT_S,
            network=network,
            stdin=stdin,
            on_output=output.add,
        )
        before, split, after = output.value().rpartition(mark.encode())
        if not split:
            # It never began, or something ended the shell: then what there is to read says why.
            before, after = after, b"" if after else ran.output + f"(user: {user or self.owner})".encode()
        return Outcome(ran.code, before[-limit:], after[-limit:], ran.killed)

    def absolute(self, path: str) -> str:
        """Return a path from the folder where commands begin."""
        return str(PurePosixPath(self.folder, path))


class _Tail:
    """The end of what a command printed: the last blocks, of `limit` bytes or a little more."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._blocks: deque[bytes] = deque()
        self._size = 0

    def add(self, block: bytes) -> None:
        self._blocks.append(bytes(block))
        self._size += len(block)
        while self._size - len(self._blocks[0]) >= self._limit:
            self._size -= len(self._blocks.popleft())

    def value(self) -> bytes:
        return b"".join(self._blocks)


def cache_folder() -> Path:
    """Return the folder that evaluations keep images and libraries in."""
    return cache_home(os.environ) / "evals"


def new_maker(kind: str) -> EnvironmentMaker:
    """Return a maker of a kind of environment; raise `EnvironmentFault`."""
    return open_maker(kind, cache_folder())
