"""What verifiers fetch from the web, for machines that cannot reach it: uv, and a Python for it.

Many tests get uv by a script and let it get a Python. Both come from where this machine has them: uv from its package
index, the Python from the machine itself. They go in with the tests, after the agent has ended, so that no agent finds
them; the trial's record names them as stand-ins.
"""

from __future__ import annotations

import asyncio
import re
import sys
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

from lathe.evals.environments.base import EnvironmentFault
from lathe.evals.environments.standins import find_python
from lathe.evals.environments.storage import finish

BIN: Final = "/root/.local/bin"
_SCRIPT: Final = re.compile(r"astral\.sh/uv(?:/([0-9][0-9.]*))?/install\.sh")
_PYTHON: Final = re.compile(r"(?:-p|--python)[ =]+(3\.\d+)")
_DEFAULT: Final = "0.9.5"
_PROGRAMS: Final = ("uv", "uvx")
_ENV: Final = '#!/bin/sh\nexport UV_PYTHON_DOWNLOADS=never\nexport PATH="$HOME/.local/bin:$PATH"\n'
_FETCH_S: Final = 300.0


class Aid(NamedTuple):
    """What goes in: folders of this machine to be mounted, files to be put, and links; all by path in there."""

    folder: Path | None = None
    mounts: tuple[tuple[Path, str], ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    sentences: tuple[str, ...] = ()


async def aid_for(tests: Path, home: Path, log: Path) -> Aid:
    """Return what these tests would fetch; raise `EnvironmentFault` where it cannot be had."""
    texts = [path.read_text(errors="replace") for path in tests.glob("*.sh")] if tests.is_dir() else []
    script = next((found for text in texts if (found := _SCRIPT.search(text))), None)
    if script is None:
        return Aid()
    version = script.group(1) or _DEFAULT
    folder = await _uv(version, home, log)
    sentences = [f"uv {version} is from the package index, not from astral.sh"]
    mounts, links = [], []
    for wanted in sorted({found for text in texts for found in _PYTHON.findall(text)}):
        python = find_python(wanted)
        if python is not None:
            mounts.append((python, str(python)))
            links.append((f"{BIN}/python{wanted}", f"{python}/bin/python{wanted}"))
            sentences.append(f"Python {python.name} for the tests is this machine's")
    return Aid(folder, tuple(mounts), tuple(links), tuple(sentences))


async def _uv(version: str, home: Path, log: Path) -> Path:
    """Return a folder with uv in it, from the package index."""
    folder = home / "uv" / version
    if (folder / "uvx").exists():
        return folder
    wheels = home / "uv" / f"{version}.wheels"
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(wheels), f"uv=={version}"]
    ended = await finish(argv, log, _FETCH_S)
    found = next(iter(wheels.glob("uv-*.whl")), None)
    if ended.code or found is None:
        raise EnvironmentFault("files", f"uv {version}, which the tests need, cannot be had: {ended.last}.")
    await asyncio.to_thread(_unpack, found, folder)
    return folder


def _unpack(wheel: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            program = Path(name).name
            if program in _PROGRAMS and "/scripts/" in name:
                (folder / program).write_bytes(archive.read(name))
                (folder / program).chmod(0o755)
    (folder / "env").write_text(_ENV)
