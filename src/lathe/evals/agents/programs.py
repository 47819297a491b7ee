"""Programs of this machine in an environment: what has to be seen in there for them to run.

A program brings its interpreter and the shared libraries that a small image lacks; all of it is mounted, read-only, at
the paths that it has here, but for the libraries, which lie together in one folder. That works where the image's C
library is no older than this machine's, and the image has none of these paths itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from lathe.evals.environments.base import Mount
from lathe.protocol.errors import ConfigError

LIBRARIES = "/opt/lathe-eval/lib"
_OF_C = re.compile(r"^(?:ld-linux.*|lib(?:c|m|dl|rt|pthread|util|resolv|nsl|anl|nss_\w+)\.so.*)$")
_LINE = re.compile(r"=> (/\S+)")
START = "import os; os.environ.pop('LD_LIBRARY_PATH', None); from lathe.cli.main import run; run()"
"""Starts Lathe without handing the libraries on to what it starts."""


def straight(path: str) -> Path:
    """Return a path without `..`: what lies on such a way here need not be there in another root."""
    plain = Path(os.path.normpath(path))
    try:
        return plain if plain.samefile(path) else Path(path).resolve()
    except OSError:
        return Path(path).resolve()


def this_python() -> str:
    """Return the path of this Python, here and where `python_mounts` are."""
    return str(straight(os.path.dirname(sys.executable)) / os.path.basename(sys.executable))  # noqa: PTH119, PTH120


def lathe_source() -> Path:
    """Return the folder that Lathe is imported from, here and where `python_mounts` are."""
    import lathe

    return straight(os.path.dirname(os.path.dirname(lathe.__file__)))  # noqa: PTH120


def python_mounts(cache_folder: Path) -> list[Mount]:
    """Return what this Python and Lathe need; raise `ConfigError` where they can't be put into another root."""
    base, own = straight(sys.base_prefix), straight(sys.prefix)
    if base == Path("/usr"):
        raise ConfigError(
            "Lathe runs on the system's Python here, which can't be put into an image.",
            hint="Use one of pyenv or uv.",
        )
    mounts = [Mount(base, str(base))]
    if own != base:
        mounts.append(Mount(own, str(own)))
    source = lathe_source()
    if not source.is_relative_to(own):
        mounts.append(Mount(source, str(source)))
    return [*mounts, Mount(_libraries(cache_folder / "libraries"), LIBRARIES)]


def node_mounts(program: Path, cache_folder: Path) -> list[Mount]:
    """Return what a program of npm's needs: node, and the folder of packages that the program lies in."""
    node = shutil.which("node")
    if node is None:
        raise ConfigError("There is no node on this machine.", hint="Install Node.js.")
    real = Path(node).resolve()
    packages = next((one for one in program.resolve().parents if one.name == "node_modules"), None)
    root = packages.parent if packages is not None else program.resolve().parent
    return [
        Mount(real, "/opt/lathe-eval/bin/node"),
        Mount(root, str(root)),
        Mount(_libraries(cache_folder / "libraries"), LIBRARIES),
    ]


def _libraries(folder: Path) -> Path:
    """Return a folder with the shared libraries that Python's modules and node need, but for those of the C library."""
    wanted = _needed()
    folder.mkdir(parents=True, exist_ok=True)
    for source in wanted:
        target = folder / source.name
        if not target.exists() or target.stat().st_size != source.stat().st_size:
            draft = folder / f".{source.name}.{os.getpid()}"
            shutil.copyfile(source, draft)
            draft.chmod(0o755)
            draft.rename(target)
    return folder


@cache
def _needed() -> tuple[Path, ...]:
    import sysconfig

    modules = sorted(Path(sysconfig.get_path("platstdlib"), "lib-dynload").glob("*.so"))
    programs = [Path(sys.executable).resolve(), *modules]
    if node := shutil.which("node"):
        programs.append(Path(node).resolve())
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    found = {Path(one) for one in _LINE.findall(said)}
    return tuple(sorted(one for one in found if not _OF_C.match(one.name) and one.is_file()))
