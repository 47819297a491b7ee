"""Images of tasks: built once of a Dockerfile by buildah, kept by digest, and used as they lie in its storage.

An image's layers are folders; a room's overlay takes them as they are, so nothing is exported or copied.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lathe.evals.environments.base import EnvironmentFault
from lathe.evals.environments.rootfs import Lower
from lathe.evals.environments.standins import LABEL, StandIns
from lathe.evals.environments.storage import Storage
from lathe.evals.task import Task

_FROM: Final = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE | re.MULTILINE)
_COPY_FROM: Final = re.compile(r"^\s*COPY\s+(?:--\S+\s+)*--from=(\S+)", re.IGNORECASE | re.MULTILINE)
_PULL_S: Final = 600.0
_SHORT: Final = 16
LEFT_FREE: Final = 10 << 30
"""So many bytes of the disk are left free before another image is built, as long as older ones can be removed."""
_FORM: Final = "1"
"""Changes with the way images are made, so that older ones are not taken for the same."""


class BuiltImages:
    """Builds images into a storage, one at a time, and says how they are to be used."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._standins = StandIns(storage)
        self._unreachable = False
        self._used: set[str] = set()
        self._building = asyncio.Lock()

    async def lower(self, task: Task, log: Path) -> Lower:
        """Return the root file system of a task's image, built where that was not done before."""
        async with self._building:
            name = await self.image(task, log)
            told = await self._storage.configuration(name)
        config = _config(told)
        standins = _standins(config)
        env = dict(pair.partition("=")[::2] for pair in config.get("Env") or ())
        return Lower(
            tuple(self._storage.layers(told["FromImageID"])),
            config.get("WorkingDir") or "/",
            env,
            config.get("User") or "",
            standins=standins,
            aided=self._storage.home if self._unreachable or standins else None,
        )

    async def standins(self, image: str) -> tuple[str, ...]:
        """Return what in an image stands in for something else."""
        return _standins(_config(await self._storage.configuration(image)))

    async def image(self, task: Task, log: Path) -> str:
        """Return the name of a task's image; raise `EnvironmentFault`."""
        spec = task.environment
        if spec.context is None:
            await self._have(spec.image, log)
            return spec.image
        dockerfile = spec.context / "Dockerfile"
        if not dockerfile.is_file():
            raise EnvironmentFault("build", f"{task.name} has no Dockerfile in {spec.context}.")
        digest = await asyncio.to_thread(_digest, spec.context)
        name = f"localhost/lathe-task:{digest[:_SHORT]}"
        self._used.add(name)
        self._storage.touch(name)
        if await self._storage.has(name):
            return name
        for base in bases(dockerfile.read_text(encoding="utf-8", errors="replace")):
            await self._have(base, log)
        await self._make_room(log)
        arguments = ["bud", "--isolation", "chroot", "--pull-never", "--layers", "--force-rm", "--format", "docker"]
        arguments += ["--label", f"dev.lathe.task={task.name}", "--tag", name, "--file", str(dockerfile)]
        began = time.monotonic()
        ended = await self._storage.do(*arguments, str(spec.context), log=log, timeout_s=spec.build_timeout_s)
        if ended.code:
            late = time.monotonic() - began >= spec.build_timeout_s
            why = f"it took longer than {spec.build_timeout_s:.0f} s" if late else ended.last
            raise EnvironmentFault("build", f"The image of {task.name} could not be built: {why}. See {log}.")
        return name

    async def _make_room(self, log: Path) -> None:
        """Remove images of tasks, those that were not used for the longest first, while the disk is nearly full."""
        for name in self._storage.oldest():
            if self._storage.free() >= LEFT_FREE:
                return
            if name not in self._used:
                await self._storage.remove(name, log)

    async def _have(self, image: str, log: Path) -> None:
        """Have a base image: the one there is, the registry's, or a stand-in."""
        if await self._storage.has(image):
            return
        if not self._unreachable:
            ended = await self._storage.do("pull", image, log=log, timeout_s=_PULL_S)
            if not ended.code:
                return
            self._unreachable = "lookup" in ended.output or "dial tcp" in ended.output or "timeout" in ended.output
        await self._standins.make(image, log)


def _config(told: dict[str, Any]) -> dict[str, Any]:
    return (told.get("Docker") or {}).get("config") or {}


def _standins(config: dict[str, Any]) -> tuple[str, ...]:
    return tuple(value for key, value in (config.get("Labels") or {}).items() if key == LABEL)


def bases(dockerfile: str) -> list[str]:
    """Return the images that a Dockerfile builds upon, stages of its own left out."""
    stages: set[str] = set()
    found: list[str] = []
    for image, stage in _FROM.findall(dockerfile):
        if image.lower() not in stages and image != "scratch":
            found.append(image)
        if stage:
            stages.add(stage.lower())
    others = [image for image in _COPY_FROM.findall(dockerfile) if image.lower() not in stages and not image.isdigit()]
    return list(dict.fromkeys([*found, *others]))


def _digest(context: Path) -> str:
    """Return a hash of all that a build can see."""
    total = hashlib.sha256(_FORM.encode())
    for path in _files(context):
        status = path.lstat()
        total.update(f"\0{path.relative_to(context)}\0{status.st_mode:o}\0".encode("utf-8", "surrogateescape"))
        if path.is_symlink():
            total.update(os.fsencode(path.readlink()))
        else:
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        elif path.is_file() or path.is_symlink():
            yield path
