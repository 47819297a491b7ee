"""What a failed command is told of the sandbox: only what was tried where it ran, never a guess."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lathe.protocol.errors import ConfigError
from lathe.protocol.items import FunctionCall
from lathe.sandbox.denials import candidates
from lathe.sandbox.policy import PathRules, SandboxPolicy
from lathe.tools.base import ToolContext
from lathe.tools.exec import CommandSessions, ExecCommandTool

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="what an ordinary user cannot do outside either is no denial")
INSTALL = "python3 -c \"import shutil; shutil.copy('AGENTS.md', '/usr/lib/lathe-no-such.py')\""
BOTH = ("bubblewrap", "landlock")


class Place:
    """A home, a workspace and a folder outside it, none of them below /tmp."""

    def __init__(self, base: Path) -> None:
        self.home, self.outside, self.ws = base / "home", base / "out", base / "ws"
        for folder in (self.home / ".ssh", self.outside / "deep", self.ws / "sub"):
            folder.mkdir(parents=True)
        for path in (self.home / ".ssh" / "id", self.home / ".gitconfig", self.outside / "file", self.ws / ".env"):
            path.write_text("x\n")
        (self.ws / "AGENTS.md").write_text("do\n")
        os.system(f"git init -q {self.ws}")

    async def run(self, tier: str, command: str, *, mode: str = "workspace-write", workdir: str = "") -> list[str]:
        """Return what is said of the sandbox at the end of a command's output, for the model and for the person."""
        rules = PathRules(veiled=(".env",), guarded=("AGENTS.md",))
        policy = SandboxPolicy(mode=mode, writable_roots=(str(self.ws),), paths=rules)
        environ = {**os.environ, "HOME": str(self.home), "LC_ALL": "C.UTF-8", "OUT": str(self.outside)}
        sessions = CommandSessions(policy, cwd=self.ws, env=environ, tiers=(tier,))
        context = ToolContext(self.ws, policy, self.ws, "item_1", lambda item: None, lambda text: None)
        tool = ExecCommandTool(sessions)
        call = FunctionCall("c", "exec_command", json.dumps({"cmd": command, "workdir": workdir}))
        try:
            await sessions.start()
            outcome = await tool.run(tool.parse(call), context)
        except ConfigError as error:
            pytest.skip(error.message)
        finally:
            await sessions.aclose()
        lines = [line for line in outcome.output.splitlines() if line.startswith("[sandbox:")]
        assert [line for line in outcome.item.aggregated_output.splitlines() if line.startswith("[sandbox:")] == lines
        return [line for line in lines if "put back" not in line and "can be read here" not in line]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    public = os.geteuid() == 0 and Path("/srv").is_dir()
    folder = Path(tempfile.mkdtemp(prefix=".denials-", dir="/srv" if public else Path(__file__).parent))
    found = Place(folder)
    monkeypatch.setenv("HOME", str(found.home))
    yield found
    shutil.rmtree(folder)


@pytest.mark.parametrize("tier", BOTH)
@pytest.mark.parametrize(
    ("command", "path", "fix"),
    [
        ("echo x >> $OUT/file", "{out}/file", 'paths.write = ["{out}/file"]'),
        ("touch $OUT/new", "{out}", 'paths.write = ["{out}"]'),
        ("touch ../out/new", "{out}", 'paths.write = ["{out}"]'),
        ("mkdir -p $OUT/deep/a/b", "{out}/deep", 'paths.write = ["{out}/deep"]'),
        ("python3 -c \"import os; os.mkdir('../out/deep/x')\"", "{out}/deep", 'paths.write = ["{out}/deep"]'),
        ("git config --global a.b c", "{home}", "escalate to do it outside"),
        ("cat ~/.ssh/id", "~/.ssh/id", 'paths.read = ["~/.ssh/id"]'),
        ("cp AGENTS.md $OUT/deep/", "{out}/deep", 'paths.write = ["{out}/deep"]'),
        ("rm -f $OUT/file", "{out}", 'paths.write = ["{out}"]'),
        ("mv $OUT/file .", "{out}", 'paths.write = ["{out}"]'),
        ("ls /nonexistent", "", ""),
        ("cat ~/.ssh/none", "", ""),
        ("cat sub/none.txt", "", ""),
        ("chmod 000 sub; cat sub", "", ""),
        ("python3 -c \"import json; json.loads('x')\"", "", ""),
        ("echo 'PermissionError: /nowhere/at/all Permission denied'; false", "", ""),
        ("echo \"AssertionError: expected 'Permission denied' for sub/x and ./y\"; false", "", ""),
        ("touch $OUT/new || true", "", ""),
    ],
)  # fmt: skip
async def test_what_is_told_was_tried(tier: str, command: str, path: str, fix: str, place: Place) -> None:
    lines = await place.run(tier, command)
    if not path:
        assert lines == []
        return
    (line,) = lines
    names = {"out": place.outside, "home": place.home}
    assert line.startswith(f"[sandbox: {path.format(**names)} is ")
    assert fix.format(**names) in line
    assert sorted(entry.name for entry in place.outside.rglob("*")) == ["deep", "file"]


@ROOT
@pytest.mark.parametrize("tier", BOTH)
@pytest.mark.parametrize("command", ["touch /etc/hosts.new", "mkdir /usr/lib/lathe-no-such", INSTALL])
async def test_folders_of_the_system_are_told_of(tier: str, command: str, place: Place) -> None:
    (line,) = await place.run(tier, command)
    assert "is not writable here" in line
    assert "paths.write = [" in line


@pytest.mark.parametrize("tier", BOTH)
async def test_an_installation_into_the_systems_packages_is_told_of(tier: str, place: Place) -> None:
    if subprocess.run(["python3", "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("python3 has no pip")
    wheel = "nosuch-1-py3-none-any.whl"
    with zipfile.ZipFile(place.ws / wheel, "w") as file:
        file.writestr("nosuch.py", "")
        file.writestr("nosuch-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: nosuch\nVersion: 1\n")
        file.writestr("nosuch-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("nosuch-1.dist-info/RECORD", "")
    packages = place.outside / "site-packages"
    packages.mkdir()
    (line,) = await place.run(tier, f"python3 -m pip install --no-index --no-deps --target {packages} ./{wheel}")
    assert line.startswith(f"[sandbox: {packages} is not writable here")
    assert list(packages.iterdir()) == []


async def test_what_is_mounted_by_itself_is_told_of(place: Place) -> None:
    (line,) = await place.run("bubblewrap", "rm AGENTS.md")
    assert 'paths.write = ["AGENTS.md"]' in line
    (line,) = await place.run("bubblewrap", "cat .env")
    assert 'paths.read = [".env"]' in line
    (line,) = await place.run("bubblewrap", "git config a.b c")
    assert line.startswith("[sandbox: .git/config is not writable here")
    assert "paths" not in line
    (line,) = await place.run("bubblewrap", "echo x > ../AGENTS.md", workdir="sub")
    assert 'paths.write = ["AGENTS.md"]' in line


async def test_where_nothing_may_be_written_no_setting_is_named(place: Place) -> None:
    (line,) = await place.run("bubblewrap", "touch new", mode="read-only")
    assert line.startswith(f"[sandbox: {place.ws} is not writable here")
    assert "paths" not in line


async def test_tests_that_fail_with_paths_in_their_tracebacks_blame_nobody(place: Place) -> None:
    (place.ws / "test_it.py").write_text(
        "import unittest\nclass T(unittest.TestCase):\n"
        "    def test_a(self): open('/no/such/file')\n"
        "    def test_b(self): raise PermissionError(13, 'Permission denied', '/also/none')\n"
        "    def test_c(self): self.assertEqual('No such file or directory: /etc/passwd', 1)\n"
    )
    assert await place.run("bubblewrap", "python3 -m unittest test_it") == []


def test_the_number_of_candidates_is_bounded(tmp_path: Path) -> None:
    output = "\n".join(f"x: /a/{number}: Permission denied" for number in range(10_000))
    found = candidates(output, str(tmp_path))
    assert len(found) == 16
    assert found[0].path == "/a/9999"
