"""Git's objects, held by links of Lathe's own: what a repository loses can still be read from here."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from lathe.store.git import alternate, git_command, git_environment

_BARE = {"HEAD": "ref: refs/heads/none\n", "config": "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"}


class GitObjects:
    """A bare repository in `folder` whose objects are links to those of the repository at `git_dir`.

    Git writes an object once and never again, so a link holds it whatever happens to the repository.
    """

    def __init__(self, folder: Path, git_dir: Path) -> None:
        self._folder = folder
        self._source = git_dir / "objects"
        self._seen: dict[str, int] = {}

    def hold(self) -> None:
        """Link what is new; objects on another file system can't be held, and are read where they are."""
        try:
            folders = [entry for entry in os.scandir(self._source) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return
        self._prepare()
        for folder in folders:
            changed = folder.stat(follow_symlinks=False).st_mtime_ns
            if folder.name == "info" or self._seen.get(folder.name) == changed:
                continue
            target = self._folder / "objects" / folder.name
            target.mkdir(exist_ok=True)
            have = {entry.name for entry in os.scandir(target)}
            for entry in os.scandir(folder.path):
                if entry.name not in have and not entry.name.startswith("tmp_"):
                    with contextlib.suppress(OSError):
                        os.link(entry.path, target / entry.name, follow_symlinks=False)
            self._seen[folder.name] = changed

    def give_back(self) -> None:
        """Link into the repository again what it has lost; raise `OSError`."""
        held = self._folder / "objects"
        if not held.is_dir():
            return
        for folder in os.scandir(held):
            if not folder.is_dir(follow_symlinks=False):
                continue
            target = self._source / folder.name
            target.mkdir(parents=True, exist_ok=True)
            have = {entry.name for entry in os.scandir(target)}
            for entry in os.scandir(folder.path):
                if entry.name not in have:
                    os.link(entry.path, target / entry.name, follow_symlinks=False)

    def _prepare(self) -> None:
        if not (self._folder / "HEAD").exists():
            (self._folder / "refs").mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._folder / "objects").mkdir(exist_ok=True)
            for name, text in _BARE.items():
                (self._folder / name).write_text(text)

    def sizes(self, oids: Iterable[str]) -> dict[str, int]:
        """Return the size in bytes of each blob that is there."""
        done = self._run("--batch-check=%(objectname) %(objecttype) %(objectsize)", "\n".join(oids).encode())
        found: dict[str, int] = {}
        for line in done.decode("ascii", "replace").splitlines():
            oid, kind, *size = line.split(" ")
            if kind == "blob":
                found[oid] = int(size[0])
        return found

    def blobs(self, oids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (id, bytes) of each blob that is there."""
        for oid in oids:  # one at a time: contents may be large, and few are asked for
            data = self._run("--batch", oid.encode() + b"\n")
            head, _, rest = data.partition(b"\n")
            fields = head.split(b" ")
            if len(fields) == 3 and fields[1] == b"blob":
                yield oid, rest[: int(fields[2])]

    def _run(self, mode: str, given: bytes) -> bytes:
        environ = git_environment(alternate(self._source))
        command = git_command("--git-dir", str(self._folder), "cat-file", mode)
        try:
            return subprocess.run(command, input=given, env=environ, capture_output=True, check=False).stdout
        except OSError:
            return b""
