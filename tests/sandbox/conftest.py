"""A runner of each tier, and what tests ask of the machine around it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from lathe.protocol.errors import ConfigError
from lathe.sandbox.policy import PathRules, SandboxMode, SandboxPolicy
from lathe.sandbox.runner import Process, Runner

CONFINING = [
    "bubblewrap",
    "bubblewrap with the machine's proc",
    "bubblewrap with the machine's network",
    "landlock",
]
STARTED_BY = {
    "bubblewrap with the machine's proc": "machine-proc",
    "bubblewrap with the machine's network": "shared-network",
}


class Box:
    """A runner, its workspace, and short words for what tests do with them."""

    def __init__(self, runner: Runner, workspace: Path) -> None:
        self.runner = runner
        self.workspace = workspace

    async def spawn(self, script: str, on_output: Callable[[bytes], object] = len, **more: object) -> Process:
        return await self.runner.spawn(
            ["/bin/bash", "-c", script], cwd=str(self.workspace), on_output=on_output, **more
        )

    async def run(self, script: str, **more: object) -> tuple[int, str]:
        """Return a script's exit status and output."""
        output = bytearray()
        process = await self.spawn(script, output.extend, **more)
        status = await asyncio.wait_for(process.wait(), 30)
        return status, output.decode()


MakeBox = Callable[..., "asyncio.Future[Box]"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that no policy here names, and that is not below a temporary folder either."""
    # Another user cannot reach a checkout below root's home.
    public = os.geteuid() == 0 and Path("/srv").is_dir()
    folder = Path(tempfile.mkdtemp(prefix=".outside-", dir="/srv" if public else Path(__file__).parent))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def environment() -> Mapping[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "LANG": "C.UTF-8"}


@pytest.fixture(autouse=True)
def _nothing_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test made Lathe believe of the machine holds for that test alone."""
    monkeypatch.setattr("lathe.sandbox.tiers._fresh_proc_works", True)


@pytest.fixture
async def make(workspace: Path, environment: Mapping[str, str]) -> AsyncIterator[MakeBox]:
    """Make boxes that are closed with the test."""
    boxes: list[Box] = []

    async def make(tier: str, mode: SandboxMode = "workspace-write", **more: object) -> Box:
        if tier == "none":
            mode = "danger-full-access"
        cwd = Path(str(more.pop("cwd", workspace)))
        rules = more.pop("rules", None) or PathRules()
        assert isinstance(rules, PathRules)
        network = bool(more.pop("network", False))
        policy = SandboxPolicy(mode=mode, writable_roots=(str(cwd),), network=network, paths=rules)
        runner = Runner(policy, cwd=cwd, env=environment, tiers=(STARTED_BY.get(tier, tier),), **more)
        try:
            await runner.start()
        except ConfigError as error:
            pytest.skip(f"{tier}: {error.message}")
        assert runner.tier == tier.partition(" ")[0]
        boxes.append(Box(runner, cwd))
        return boxes[-1]

    yield make
    for box in boxes:
        await box.runner.aclose()


@pytest.fixture(params=["none", *CONFINING])
def tier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def box(tier: str, make: MakeBox) -> Box:
    """A box of each tier."""
    return await make(tier)


@pytest.fixture(params=CONFINING)
async def confined(request: pytest.FixtureRequest, make: MakeBox) -> Box:
    """A box of each tier that confines."""
    return await make(request.param)


class Traced:
    """Finds processes on this machine by a word in their command line."""

    def __init__(self) -> None:
        self.word = uuid.uuid4().hex

    def alive(self) -> list[int]:
        found = []
        for entry in os.listdir("/proc"):
            try:
                words = Path("/proc", entry, "cmdline").read_bytes()
                state = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0]
            except (OSError, IndexError):
                continue
            if entry.isdigit() and self.word.encode() in words and state not in "ZX":
                found.append(int(entry))
        return found

    def until(self, wanted: Callable[[int], bool]) -> list[int]:
        """Return the processes once their number is as wanted; fail if it never is."""
        limit = time.monotonic() + 20
        while not wanted(len(found := self.alive())):
            assert time.monotonic() < limit, f"{len(found)} processes"
            time.sleep(0.005)
        return found


@pytest.fixture
def traced() -> Traced:
    return Traced()
