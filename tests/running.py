"""Running `lathe` as a person would: a process of its own, a scripted model at the other end of a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lathe.models.script import Call, FreeformCall, Step, Words
from lathe.models.scripted import ScriptedServer

KEY = "sk-test-1234567890abcdefghijkl"


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def items(self, kind: str) -> list[dict[str, Any]]:
        """The completed items of one type."""
        done = [event["item"] for event in self.events if event["type"] == "item.completed"]
        return [item for item in done if item["type"] == kind]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


def environment(base_url: str = "", **more: str) -> dict[str, str]:
    """The environment of a run; with `base_url` the scripted model is the one that is asked."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LATHE_HOME", "LANG", "TMPDIR") if name in os.environ}
    if base_url:
        env |= {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": KEY}
    return env | more


async def start(*args: str, cwd: Path, env: Mapping[str, str], **more: Any) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lathe", *args, cwd=cwd, env=dict(env), stdin=pipe, stdout=pipe, stderr=pipe, **more
    )


async def lathe(*args: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Ran:
    """Run `lathe` to its end."""
    process = await start(*args, cwd=cwd, env=environment() if env is None else env)
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def scripted(
    steps: Iterable[Step] | Callable[..., Step], *args: str, cwd: Path, env: Mapping[str, str] | None = None
) -> tuple[Ran, ScriptedServer]:
    """Run `lathe exec --json -m scripted-1 ARGS` against a model that says `steps`."""
    async with ScriptedServer(steps) as server:
        ran = await lathe(
            "exec", "--json", "-m", "scripted-1", *args, cwd=cwd, env=environment(server.base_url, **(env or {}))
        )
    return ran, server


def run(command: str, **arguments: Any) -> Step:
    """A step that runs a command."""
    return Step(say=(Call("exec_command", json.dumps({"cmd": command, **arguments})),))


def patch(text: str) -> Step:
    """A step that applies a patch."""
    return Step(say=(FreeformCall("apply_patch", text),))


def says(text: str) -> Step:
    """A step that only talks."""
    return Step(say=(Words(text),))
