"""A plain root file system, without any build: the machine's own programs, and next to nothing else of it.

What lies in `/usr` is shared, what a task changes there is its own. The rest is made anew: of `/etc` only what
programs need to run, of the machine's users only the system's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lathe.evals.environments.base import EnvironmentFault
from lathe.sandbox.namespace import RESOLVER

_FOLDERS: Final = (
    *("dev", "proc", "sys", "etc", "home", "mnt", "media", "opt", "srv", "usr", "run", "run/lock"),
    *("var", "var/lib", "var/log", "var/cache", "var/spool"),
)
_OPEN: Final = ("tmp", "var/tmp")
_OF_ETC: Final = (
    *("adduser.conf", "bash.bashrc", "default/useradd", "login.defs", "pam.d", "security", "shells"),
    *("alternatives", "ca-certificates", "ca-certificates.conf", "debian_version", "inputrc", "ld.so.cache"),
    *("ld.so.conf", "ld.so.conf.d", "localtime", "magic", "mime.types", "nsswitch.conf", "os-release", "perl"),
    *("protocols", "python3", "python3.11", "python3.12", "python3.13", "services", "skel", "terminfo", "timezone"),
    *(
        "ssl/certs/ca-certificates.crt",
        "ssl/openssl.cnf",
        "pki/tls/certs",
        "pki/ca-trust/extracted",
        "java-17-openjdk",
        "vim",
    ),
)
_LINKS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FIRST_PERSON, _NOBODY = 1000, 65534
_PROFILE: Final = 'PS1="\\\\u@\\\\h:\\\\w# "\n'


HOST: Final = "trial"
"""What a place is called inside."""


def make_additions(folder: Path) -> None:
    """Make the tree that lies above that of any image: names as they are in there, and places for logs and tests."""
    for name in ("agent", "verifier", "artifacts"):
        (folder / "logs" / name).mkdir(parents=True)
        (folder / "logs" / name).chmod(0o777)
    (folder / "tests").mkdir()
    (folder / "etc").mkdir()
    (folder / "etc" / "hosts").write_text(f"127.0.0.1\tlocalhost {HOST}\n")
    (folder / "etc" / "hostname").write_text(f"{HOST}\n")
    shutil.copy(RESOLVER, folder / "etc" / "resolv.conf")


def make_plain(folder: Path) -> list[tuple[Path, str]]:
    """Make the tree below `/` in a folder; return what else is to be mounted: a path here and one there. Blocks."""
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in _OPEN:
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(0o1777)
    (folder / "root").mkdir(mode=0o700, exist_ok=True)
    mounted = []
    for name in _LINKS:
        here = Path("/", name)
        if here.is_symlink():
            (folder / name).symlink_to(here.readlink())
        elif here.is_dir():
            (folder / name).mkdir()
            mounted.append((here, f"/{name}"))
    for name in _OF_ETC:
        _copy(Path("/etc", name), folder / "etc" / name)
    _write_people(folder / "etc")
    return mounted


def _copy(here: Path, there: Path) -> None:
    with contextlib.suppress(OSError):
        there.parent.mkdir(parents=True, exist_ok=True)
        if here.is_dir() and not here.is_symlink():
            shutil.copytree(here, there, symlinks=True)
        elif os.path.lexists(here):
            shutil.copy2(here, there, follow_symlinks=here.is_symlink() and not str(here.readlink()).startswith("/usr"))


def _write_people(folder: Path) -> None:
    for name in ("passwd", "group"):
        with contextlib.suppress(OSError):
            lines = Path("/etc", name).read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if _is_of_system(line)]
            # a group's members are people, a system user's home may lie anywhere
            kept = [line.rpartition(":")[0] + ":" if name == "group" else line for line in kept]
            (folder / name).write_text("\n".join(kept) + "\n", encoding="utf-8")
    shadow = folder / "shadow"
    shadow.write_text("root:*:19000:0:99999:7:::\n")
    shadow.chmod(0o640)
    (folder / "profile").write_text(_PROFILE)


def _is_of_system(line: str) -> bool:
    number = line.split(":")[2:3]
    return bool(number) and number[0].isdecimal() and (int(number[0]) < _FIRST_PERSON or int(number[0]) == _NOBODY)


def lay_files(folder: Path, files: Sequence[tuple[Path, str]], workdir: str) -> None:
    """Put a task's files into a tree of their own; raise `EnvironmentFault`. Blocks."""
    for here, there in files:
        target = folder / os.path.normpath("/" + there).lstrip("/")
        try:
            _make(folder, target.parent)
            if here.is_dir():
                shutil.copytree(here, target, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(here, target)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise EnvironmentFault("build", f"{here} could not be put to {there}: {why}.") from None
    _make(folder, folder / workdir.strip("/"))
    for each in [folder, *folder.rglob("*")]:
        os.chown(each, 0, 0, follow_symlinks=False)


def _make(top: Path, folder: Path) -> None:
    """Make a folder and those above, of the modes that the plain tree gives them."""
    if folder == top or folder.is_dir():
        return
    _make(top, folder.parent)
    folder.mkdir()
    name = str(folder.relative_to(top))
    folder.chmod(0o1777 if name in _OPEN else 0o700 if name == "root" else 0o755)
