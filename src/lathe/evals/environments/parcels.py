"""Files on their way into a room and out of it, as a tar stream through a socket."""

from __future__ import annotations

import os
import socket
import tarfile
from collections.abc import Callable
from io import BufferedReader, BytesIO, IOBase
from pathlib import Path
from typing import IO, Final, TypeAlias

from lathe.evals.environments import people

Stream: TypeAlias = IO[bytes] | IOBase
_BLOCK: Final = 1 << 16


def make_folder(path: str, mode: int = 0o755) -> None:
    """Make a folder and those above it; nothing where it is there."""
    above = os.path.dirname(path)  # noqa: PTH120
    if above not in ("", "/"):
        make_folder(above)
    try:
        os.mkdir(path)  # noqa: PTH102
        os.chmod(path, mode)  # noqa: PTH101
    except FileExistsError:
        pass


def answer(link: socket.socket, what: Callable[[Stream], None]) -> None:
    """Give the stream that comes through a socket to a function, and send back what went wrong, "" for nothing."""
    why = ""
    with link.makefile("rb", _BLOCK) as stream:
        try:
            what(stream)
        except (OSError, tarfile.TarError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else "") or str(error)
        # whoever sent it is told of a broken connection where anything is left unread, be it the archive's padding
        while stream.read(_BLOCK):
            pass
    link.sendall(why.encode("utf-8", "replace"))
    link.shutdown(socket.SHUT_WR)


def unpack(stream: Stream, there: str, owner: str) -> None:
    """Put files there; folders that are there keep their mode; all belong to `owner`."""
    make_folder(os.path.dirname(there) or "/")  # noqa: PTH120
    user = people.find(owner or "0:0")
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            target = there + member.name.removeprefix(".") if member.name != "." else there
            if member.isdir() and os.path.isdir(target):  # noqa: PTH112
                continue
            _unpack_one(archive, member, target)
            os.chown(target, user.number, user.group, follow_symlinks=False)


def _unpack_one(archive: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
    if member.isdir():
        make_folder(target, member.mode)
        return
    if os.path.lexists(target):
        os.unlink(target)  # noqa: PTH108
    if member.issym():
        os.symlink(member.linkname, target)  # noqa: PTH211
        return
    source = archive.extractfile(member)
    if source is None:
        return
    with source, Path(target).open("xb") as file:
        while block := source.read(_BLOCK):
            file.write(block)
    os.chmod(target, member.mode)  # noqa: PTH101
    os.utime(target, (member.mtime, member.mtime))


def send(link: socket.socket, there: str, most: int) -> None:
    """Send a file or folder through a socket; nothing where there is none.

    Only plain files, folders and links go; a file of more than `most` bytes does not.
    """
    if not os.path.lexists(there):
        return
    with link.makefile("wb", _BLOCK) as stream:
        pack(stream, there, most)


def pack(stream: Stream, path: str, most: int = 0) -> None:
    """Write a file or folder to a tar stream, its own name left out; `most` bounds the size of a file, 0 does not."""

    def chosen(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        archive.inodes.clear()  # type: ignore[attr-defined]  # else a second name of a file would be sent as a link
        if not (member.isreg() or member.isdir() or member.issym()) or (most and member.size > most):
            return None
        return member

    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        archive.add(path, ".", filter=chosen)


def take(stream: Stream, here: Path) -> bool:
    """Write what `pack` sent to a file or folder out here; return whether there was anything.

    A link that leads out of it is left out: whoever reads these files trusts them not to be others.
    """
    found = False
    if not getattr(stream, "peek")(1):  # noqa: B009
        return False
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            if member.name == "." and not member.isdir():
                found = _take_alone(archive, member, here)
                continue
            found = True
            try:
                safe = tarfile.data_filter(member, str(here))
            except tarfile.FilterError:
                continue
            archive.extract(safe, here, set_attrs=not member.issym(), filter="data")
    return found


def _take_alone(archive: tarfile.TarFile, member: tarfile.TarInfo, here: Path) -> bool:
    source = archive.extractfile(member) if member.isreg() else None
    if source is None:
        return False
    here.parent.mkdir(parents=True, exist_ok=True)
    with source, here.open("wb") as file:
        while block := source.read(_BLOCK):
            file.write(block)
    return True


def take_archive(archive: bytes, top: str, here: Path) -> bool:
    """Write a tar archive, whose names begin with `top`, to a file or folder out here, as `take` does."""
    source, sink = BytesIO(archive), BytesIO()
    with tarfile.open(fileobj=source) as given, tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as kept:
        for member in given:
            name = member.name.rstrip("/")
            if name != top and not name.startswith(f"{top}/"):
                continue
            member.name = f".{name.removeprefix(top)}"
            kept.addfile(member, given.extractfile(member) if member.isreg() else None)
    sink.seek(0)
    return take(BufferedReader(sink), here)
