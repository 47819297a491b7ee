"""The folder where images lie, and the programs that fill it: buildah, and what it takes to run it as it is here."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from lathe.evals.environments.base import EnvironmentFault

_NEEDED: Final = ("buildah", "runc")
_REGISTRIES: Final = 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n'
_POLICY: Final = '{"default": [{"type": "insecureAcceptAnything"}]}\n'
_RUN_NAME: Final = 50
_RUN_PREFIX: Final = "lathe-evals-"
_HOME: Final = "lathe-home"
"""A file of a run folder with a short name: whose it is."""
_KEPT: Final = 65536
_SECRET: Final = ("TOKEN", "SECRET", "PASSWORD", "KEY", "CREDENTIAL")


def missing_programs() -> list[str]:
    """Return the programs that building images takes and that are not there."""
    return [name for name in _NEEDED if shutil.which(name) is None]


class Ended(NamedTuple):
    """How a program ended, and the last of what it said."""

    code: int
    output: str

    @property
    def last(self) -> str:
        """The last line that says something."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"


async def finish(argv: Sequence[str], log: Path, timeout_s: float, env: Mapping[str, str] | None = None) -> Ended:
    """Run a program to its end, its output added to `log`; past the time it and its children are killed, code 137."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"$ {' '.join(argv)[:2000]}\n".encode("utf-8", "replace"))
        file.flush()
        begins = file.tell()
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file, env=env, start_new_session=True
        )
        try:
            code = await asyncio.wait_for(process.wait(), timeout_s)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            if not isinstance(error, TimeoutError):
                raise
            code = 128 + signal.SIGKILL
    with log.open("rb") as file:
        file.seek(max(begins, log.stat().st_size - _KEPT))
        return Ended(code, file.read().decode("utf-8", "replace"))


def _short(folder: Path) -> Path:
    """Return the folder of what is there while containers run; podman takes no name of more than 50 letters."""
    if len(str(folder)) <= _RUN_NAME:
        return folder
    name = hashlib.blake2b(str(folder).encode(), digest_size=8).hexdigest()
    return _runs() / f"{_RUN_PREFIX}{name}"


def _runs() -> Path:
    return Path("/run" if os.geteuid() == 0 else tempfile.gettempdir())


def remove_orphans(runs: Path) -> None:
    """Remove run folders whose storage is gone: what is in them is of no use to anybody."""
    for folder in runs.glob(f"{_RUN_PREFIX}*"):
        try:
            mine = folder.lstat().st_uid == os.geteuid()
            home = Path((folder / _HOME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if mine and home.is_absolute() and not home.exists():
            _unmount_below(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _unmount_below(folder: Path) -> None:
    """Let go of the memory that dead containers had mounted in a run folder."""
    from lathe.evals.environments import kernel

    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        path = line.split()[4]
        if Path(path).is_relative_to(folder):
            kernel.unmount(path)


class Storage:
    """Images in a folder of the cache; whoever has root uses it, no daemon needed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._root = home / "storage"
        self._run = _short(home / "run")
        self._settings = home / "containers"
        self._ready = False

    def prepare(self) -> None:
        """Make the folders and settings; raise `EnvironmentFault` where programs are missing."""
        if self._ready:
            return
        if missing := missing_programs():
            what = " and ".join(missing)
            raise EnvironmentFault("build", f"Images cannot be built: {what} missing (apt-get install buildah runc).")
        self._settings.mkdir(parents=True, exist_ok=True)
        (self._settings / "registries.conf").write_text(_REGISTRIES)
        (self._settings / "policy.json").write_text(_POLICY)
        if self._run != self.home / "run":
            self._run.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._run / _HOME).write_text(str(self.home.absolute()), encoding="utf-8")
            remove_orphans(self._run.parent)
        self._ready = True

    def environment(self) -> dict[str, str]:
        """Return the environment for these programs: what is secret in ours is not for a Dockerfile."""
        kept = {key: value for key, value in os.environ.items() if not any(word in key.upper() for word in _SECRET)}
        return {
            **kept,
            "CONTAINERS_REGISTRIES_CONF": str(self._settings / "registries.conf"),
            "TMPDIR": str(self.home),
            "BUILDAH_HISTORY": "false",
        }

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of buildah for this folder."""
        given = ["buildah", "--root", str(self._root), "--runroot", str(self._run)]
        given += ["--storage-driver", "overlay", "--storage-opt", "overlay.mountopt=nodev"]
        return [*given, *arguments]

    async def do(self, *arguments: str, log: Path, timeout_s: float = 600.0) -> Ended:
        """Run buildah to its end."""
        self.prepare()
        return await finish(self.command(*arguments), log, timeout_s, self.environment())

    async def has(self, image: str) -> bool:
        """Return whether an image is there."""
        self.prepare()
        argv = self.command("inspect", "--type", "image", "--format", "{{.FromImageID}}", image)
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, env=self.environment()
        )
        return await process.wait() == 0

    async def configuration(self, image: str) -> dict[str, Any]:
        """Return what an image says of its commands, as in Docker's image format; raise `EnvironmentFault`."""
        argv = self.command("inspect", "--type", "image", image)
        process = await asyncio.create_subprocess_exec(
            *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=self.environment()
        )
        said, errors = await process.communicate()
        if process.returncode:
            why = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise EnvironmentFault("build", f"The image {image} cannot be looked into: {why}.")
        found: dict[str, Any] = json.loads(said)
        return found

    def layers(self, image_id: str) -> list[Path]:
        """Return the folders of an image's layers, the uppermost first; raise `EnvironmentFault`."""
        try:
            images = json.loads((self._root / "overlay-images" / "images.json").read_bytes())
            layers = json.loads((self._root / "overlay-layers" / "layers.json").read_bytes())
            top = next(image["layer"] for image in images if image["id"] == image_id)
            parents = {layer["id"]: layer.get("parent", "") for layer in layers}
        except (OSError, ValueError, KeyError, StopIteration) as error:
            raise EnvironmentFault("build", f"The layers of an image cannot be found: {error!r}.") from None
        found = []
        while top:
            found.append(self._root / "overlay" / top / "diff")
            top = parents[top]
        return found

    def touch(self, image: str) -> None:
        """Note that an image is used now."""
        folder = self.home / "used"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / image.replace("/", "+")).touch()

    def oldest(self) -> list[str]:
        """Return the images that were ever used, those that were not for the longest first."""
        known = sorted((self.home / "used").glob("*"), key=lambda path: path.stat().st_mtime)
        return [path.name.replace("+", "/") for path in known]

    def free(self) -> int:
        """Return the bytes that are free on the disk."""
        return shutil.disk_usage(self.home).free

    async def remove(self, image: str, log: Path) -> None:
        """Remove an image and the layers that no other has."""
        await self.do("rmi", "--force", image, log=log)
        (self.home / "used" / image.replace("/", "+")).unlink(missing_ok=True)
