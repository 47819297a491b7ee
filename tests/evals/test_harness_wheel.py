"""What other harnesses install: a wheel of the Lathe that runs, by a script that finds a Python."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from lathe import __version__
from lathe.evals.harnesses import invocation
from lathe.evals.harnesses.wheel import make_wheel


def installs(folder: Path, wheel: Path, path: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", str(invocation.INSTALL), str(folder), str(wheel)]
    env = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    env |= {"PATH": path, "PIP_NO_DEPS": "1"}  # what Lathe depends on comes from a registry, and is not in question
    return subprocess.run(command, env=env, capture_output=True, text=True)


def test_a_wheel_is_the_same_twice_and_holds_what_runs(tmp_path: Path) -> None:
    wheels = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        wheels.append(make_wheel(tmp_path / name))
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    with zipfile.ZipFile(wheels[0]) as wheel:
        own = wheel.read("lathe/evals/harnesses/wheel.py")
        assert own == Path(make_wheel.__code__.co_filename).read_bytes()
        assert not [name for name in wheel.namelist() if "__pycache__" in name]


def test_the_script_installs_it_with_a_python_that_it_finds(tmp_path: Path) -> None:
    # A Python that is too old stands first on the path.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    (tmp_path / "bin" / "python3.13").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "python3.13").chmod(0o755)
    done = installs(tmp_path / "lathe", make_wheel(tmp_path), f"{tmp_path}/bin:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    said = subprocess.run([tmp_path / "lathe" / "bin" / "lathe", "--version"], capture_output=True, text=True)
    assert said.stdout == f"lathe {__version__}\n"
    again = installs(tmp_path / "lathe", tmp_path / "no wheel at all", "/usr/bin:/bin")
    assert again.returncode == 0, "what is there is not installed anew"
