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

import msgspec

from lathe.evals.environments.base import Mount
from lathe.protocol.errors import ConfigError

LIBRARIES = "/opt/lathe-eval/lib"
_OF_C = re.compile(r"^(?:ld-linux.*|lib(?:c|m|dl|rt|pthread|util|resolv|nsl|anl|nss_\w+)\.so.*)$")
_LINE = re.compile(r"=> (/\S+)")
_ALONE = "import os; os.environ.pop('LD_LIBRARY_PATH', None); "
START = _ALONE + "from lathe.cli.main import run; run()"
"""Starts Lathe without handing the libraries on to what it starts."""
START_SCRIPT = (
    _ALONE + "import runpy, sys; sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
"""Starts a script of Python in that way; the script and its words follow."""
_ABOUT = """
import importlib.util, json, sys, sysconfig
found = importlib.util.find_spec(sys.argv[1])
print(json.dumps([sys.base_prefix, sys.prefix, sysconfig.get_path("platstdlib"), found and found.origin or ""]))
"""


class PythonProgram(msgspec.Struct, frozen=True):
    """A script of a Python package, its interpreter, and where all of that lies; `modules` are compiled ones."""

    script: Path
    python: Path
    base: Path
    prefix: Path
    standard: Path
    package: Path
    modules: tuple[Path, ...] = ()


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
    import sysconfig

    base, prefix = straight(sys.base_prefix), straight(sys.prefix)
    standard, package = Path(sysconfig.get_path("platstdlib")), lathe_source() / "lathe"
    own = PythonProgram(Path(), Path(this_python()), base, prefix, standard, package)
    return package_mounts("Lathe", own, cache_folder)


def package_mounts(name: str, program: PythonProgram, cache_folder: Path) -> list[Mount]:
    """Return what a package and its Python need; raise `ConfigError` where they can't be put into another root."""
    if program.base == Path("/usr"):
        raise ConfigError(
            f"{name} runs on the system's Python here, which can't be put into an image.",
            hint="Use one of pyenv or uv.",
        )
    folders = [program.base]
    for folder in (program.prefix, program.package.parent):
        if not any(folder.is_relative_to(known) for known in folders):
            folders.append(folder)
    modules = [*program.standard.joinpath("lib-dynload").glob("*.so"), *program.modules]
    libraries = _libraries(cache_folder / "libraries", (program.python.resolve(), *sorted(modules)))
    return [*(Mount(one, str(one)) for one in folders), Mount(libraries, LIBRARIES)]


def python_program(script: Path, package: str) -> PythonProgram:
    """Return what there is to know of a script that pip, pipx or uv made; raise `ConfigError` where it is none."""
    script = script.resolve()
    python = script.with_name("python")
    trouble = ConfigError(f"{script} does not lie beside a Python that has {package}.", hint="Install it by pip or uv.")
    if not python.exists():
        raise trouble
    said = subprocess.run([python, "-I", "-c", _ABOUT, package], capture_output=True, check=False)
    try:
        base, prefix, standard, origin = msgspec.json.decode(said.stdout, type=tuple[str, str, str, str])
    except msgspec.DecodeError:
        raise trouble from None
    if not origin:
        raise trouble
    folder = Path(origin).parent
    modules = tuple(folder.parent.rglob("*.so"))
    return PythonProgram(script, python, Path(base), Path(prefix), Path(standard), folder, modules)


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
        Mount(_libraries(cache_folder / "libraries", (real,)), LIBRARIES),
    ]


def _libraries(folder: Path, programs: tuple[Path, ...]) -> Path:
    """Return a folder with the shared libraries that programs and modules need, but for those of the C library."""
    wanted = _needed(programs)
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
def _needed(programs: tuple[Path, ...]) -> tuple[Path, ...]:
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    found = {Path(one) for one in _LINE.findall(said) if "/site-packages/" not in one}  # those find each other
    return tuple(sorted(one for one in found if not _OF_C.match(one.name) and one.is_file()))
