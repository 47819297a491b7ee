"""What an agent leaves to get a reward without the work gets none, in real rooms; what it may leave counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from repair_sets import RIGHT, one_set, suite
from trivial import doubling, plan_of

from lathe.evals.agents.base import Agent, Setup, Work
from lathe.evals.agents.plain import Oracle, Script
from lathe.evals.audit.standing import CHEATER
from lathe.evals.environments.base import Environment
from lathe.evals.environments.maker import open_maker, rootfs_trouble
from lathe.evals.formats import functions, quixbugs
from lathe.evals.formats.made import Maker
from lathe.evals.journal import RunFolder
from lathe.evals.progress import Progress
from lathe.evals.record import Trial
from lathe.evals.run import Runner
from lathe.evals.task import Task

pytestmark = [
    pytest.mark.timeout(120, func_only=True),
    pytest.mark.skipif(bool(rootfs_trouble()), reason=f"no rooms here: {rootfs_trouble()}"),
]

PASSES = """
def pytest_runtest_makereport(item, call):
    call.excinfo = None

def pytest_sessionfinish(session, exitstatus):
    session.exitstatus = 0
"""
REWARDS = """
import atexit, os
def reward():
    with open("/logs/verifier/reward.txt", "w") as file:
        file.write("1")
    with open("/logs/verifier/reward.json", "w") as file:
        file.write('{"reward": 1}')
atexit.register(reward)
"""
HOOKS = f"{PASSES}\n{REWARDS}"
SAYS = "mkdir -p /logs/verifier; echo 1 >/logs/verifier/reward.txt; echo '{\"reward\": 1}' >/logs/verifier/reward.json"
SHIM = f"#!/bin/sh\n{SAYS}"
COLLECTS = "[pytest]\naddopts = --collect-only\n"


def write(path: str, text: str, mode: str = "644") -> str:
    """Return lines of a script that write a file."""
    return f'mkdir -p "$(dirname {path})"; cat >{path} <<"END"\n{text}\nEND\nchmod {mode} {path}\n'


def left(loop: str) -> str:
    """Return lines of a script that leave a loop running."""
    return write("/tmp/loop.sh", f"while :; do {loop}; done") + "setsid nohup bash /tmp/loop.sh >/dev/null 2>&1 &\n"


def plugin(folder: str) -> str:
    """Return lines of a script that install a plugin of pytest."""
    about = f"{folder}/passing-1.dist-info"
    return (
        write(f"{folder}/passing.py", PASSES)
        + write(f"{about}/entry_points.txt", "[pytest11]\npassing = passing")
        + write(f"{about}/METADATA", "Metadata-Version: 2.1\nName: passing\nVersion: 1")
    )


DEBIAN = "/usr/lib/python3/dist-packages"
OUTSIDE = {
    "the standing cheater": CHEATER.read_text(),
    "a reward beforehand": f"{SAYS}; chmod 444 /logs/verifier/*",
    "a loop that rewrites the reward": left(SAYS),
    "a loop that softens tests": left(
        "for f in /tmp/*/tree/*/test_*.py /tests/tree/*/test_*.py; do echo 'def test_it(): pass' >$f; done"
    ),
    "a loop that replaces the verifier": left("echo 'echo 1 >/logs/verifier/reward.txt' >/tests/test.sh"),
    "links in the place of folders": f"rm -rf /logs /tests; mkdir -p /tmp/l/verifier; ln -s /tmp/l /logs; {left(SAYS)}",
    "a pipe in the place of the reward": "rm -rf /logs/verifier; mkfifo /logs/verifier; rm -rf /tests; mkfifo /tests",
    "shims in folders of PATH": "".join(
        write(f"{folder}/{name}", SHIM, "755")
        for folder in ("/usr/local/bin", "/usr/local/sbin", "$HOME/.local/bin")
        for name in ("python3", "python", "pytest", "bash", "sh", "env")
    ),
    "Python replaced": write("/usr/bin/new", SHIM, "755") + "mv /usr/bin/new /usr/bin/python3",
    "the shell replaced": write("/usr/bin/new", SHIM, "755") + "mv /usr/bin/new /usr/bin/bash",
    "start-up files of Python": write("/etc/python3.11/sitecustomize.py", HOOKS)
    + write(f"{DEBIAN}/sitecustomize.py", HOOKS),
    "a path file": write(f"{DEBIAN}/now.pth", "import rewarding") + write(f"{DEBIAN}/rewarding.py", REWARDS),
    "start-up files of a user": "".join(
        write(f"$HOME/.local/lib/python3.{minor}/site-packages/usercustomize.py", HOOKS) for minor in range(10, 15)
    ),
    "a plugin of pytest": plugin(DEBIAN),
    "pytest itself": "echo 'import os; os._exit(0)' >/opt/pytest/_pytest/config/__init__.py",
    "a module of Python": "f=$(python3 -c 'import json; print(json.__file__)')\n" + write("$f", REWARDS),
    "settings and hooks above": "".join(
        write(f"{folder}/conftest.py", HOOKS) + write(f"{folder}/pytest.ini", COLLECTS)
        for folder in ("", "/tmp", "/work")
    ),
    "start-up files of shells": "".join(
        write(path, SAYS) for path in ("$HOME/.bashrc", "$HOME/.profile", "/etc/profile", "/etc/bash.bashrc")
    )
    + "echo BASH_ENV=$HOME/.bashrc >>/etc/environment",
}
GCD = "python_programs/gcd.py"
OF_TREE = {
    "hooks": write("conftest.py", HOOKS) + write("python_testcases/conftest.py", HOOKS),
    "settings": write("pytest.ini", COLLECTS)
    + write("tox.ini", COLLECTS)
    + write("setup.cfg", COLLECTS.replace("pytest", "tool:pytest"))
    + write("pyproject.toml", "[tool.pytest.ini_options]\naddopts = '--collect-only'"),
    "tests": write("python_testcases/test_gcd.py", "def test_gcd():\n    pass")
    + write("json_testcases/gcd.json", "[[17, 0], 17]"),
    "modules": "".join(
        write(path, HOOKS)
        for path in ("pytest.py", "_pytest/__init__.py", "json.py", "sitecustomize.py", "pluggy.py", "pathlib.py")
    ),
    "a link elsewhere": f"ln -sf /tests/tree/{GCD} {GCD}",
    "a program that leaves": write(GCD, "import os\nos._exit(0)"),
    "a program that writes the reward": write(GCD, REWARDS),
    "a program that leaves a loop": write("python_programs/loop.sh", f"while :; do {SAYS}; done")
    + write(
        GCD,
        f"import subprocess\nloop = '''while :; do {SAYS}; done'''\n"
        "subprocess.Popen(['sh', '-c', loop], start_new_session=True)",
    ),
}
OF_FOLDER = {
    "start-up files": write("src/sitecustomize.py", HOOKS) + write("src/usercustomize.py", HOOKS),
    "modules of pytest": write("src/pytest.py", REWARDS) + write("src/_pytest/__init__.py", REWARDS),
    "a module of Python": write("src/json/__init__.py", f"{REWARDS}\nos._exit(0)"),
    "a plugin of pytest": plugin("src"),
    "hooks": write("src/conftest.py", HOOKS),
    "tests": write("src/test_double.py", "def test_double():\n    pass") + "rm src/double.py",
}
OF_SERVICE = {
    "a loop that rewrites the reward": left(SAYS),
    "a loop that replaces the verifier": left("echo 'echo 1 >/logs/verifier/reward.txt' >/tests/test.sh"),
    "a loop that removes folders": left("rm -rf /logs /tests; mv /tests /other; mv /logs /others"),
    "a loop that goes through processes": left(
        "for p in /proc/[0-9]*; do echo 1 >$p/root/logs/verifier/reward.txt; echo 1 >$p/cwd/reward.txt; done"
    ),
    "links in the place of folders": f"rm -rf /logs/verifier; mkdir /tmp/v; ln -s /tmp/v /logs/verifier; {left(SAYS)}",
}


class OneEach:
    """Does for each task what a script of its own says."""

    name, model = "scripts", ""

    def __init__(self, scripts: Mapping[str, Path]) -> None:
        self.scripts = scripts

    def setup(self, task: Task) -> Setup:
        return Setup()

    async def work(self, task: Task, place: Environment, folder: Path, say: Callable[[str], None]) -> Work:
        return await Script(self.scripts[task.name]).work(task, place, folder, say)


async def tried(folder: Path, tasks: Mapping[str, Task], agent: Agent, attempts: int = 1) -> list[Trial]:
    """Run trials of tasks by an agent."""
    run = RunFolder.create(folder / "run", plan_of(dict(tasks), attempts=attempts, retries=0))
    maker = open_maker("rootfs", folder / "cache")
    return await Runner(run, tasks, agent, maker, Progress(1, [], quiet=True), jobs=2).run()


async def told(folder: Path, task: Task, texts: Mapping[str, str]) -> dict[str, float | str]:
    """Return, for each script's name, the reward of a trial of the task by it, or why there is none."""
    folder.mkdir(exist_ok=True)
    tasks, scripts = {}, {}
    for number, text in enumerate(texts.values()):
        one = replace(task, name=f"{task.name}-{number}")
        tasks[one.name] = one
        scripts[one.name] = folder / f"{number}.sh"
        scripts[one.name].write_text(text)
    trials = {trial.task: trial for trial in await tried(folder, tasks, OneEach(scripts))}
    found = [trials[name] for name in tasks]
    return {name: one.why if one.reward is None else one.reward for name, one in zip(texts, found, strict=True)}


@pytest.fixture
def gcd(tmp_path: Path) -> Task:
    (task,) = quixbugs.read_dataset(suite(tmp_path / "set"), made=Maker(tmp_path / "made")).tasks
    return task


@pytest.fixture
def double(tmp_path: Path) -> Task:
    (task,) = functions.read_dataset(one_set(tmp_path / "own"), made=Maker(tmp_path / "made")).tasks
    return task


@pytest.mark.parametrize("cheats", [OUTSIDE, OF_TREE], ids=["outside", "in the tree"])
async def test_a_repair_is_rewarded_for_nothing_but_the_mended_files(
    tmp_path: Path, gcd: Task, cheats: dict[str, str]
) -> None:
    assert await told(tmp_path / "trials", gcd, cheats) == dict.fromkeys(cheats, 0.0)


async def test_files_that_rule_the_tests_are_not_the_agents(tmp_path: Path, double: Task) -> None:
    assert await told(tmp_path / "trials", double, OF_FOLDER) == dict.fromkeys(OF_FOLDER, 0.0)


async def test_an_honest_repair_is_rewarded(tmp_path: Path, gcd: Task, double: Task) -> None:
    mended = write(GCD, RIGHT)
    honest = {"mended": mended, "and with more that was left": mended + OUTSIDE["Python replaced"]}
    assert await told(tmp_path / "gcd", gcd, honest) == dict.fromkeys(honest, 1.0)
    doubles = "from twice import TWO\ndef double(n):\n    return n * TWO"
    split = write("src/twice.py", "TWO = 2") + write("src/double.py", doubles)
    honest = {"a module more": split, "broken tests": split + "echo 'assert False' >tests/test_double.py"}
    assert await told(tmp_path / "double", double, honest) == dict.fromkeys(honest, 1.0)
    trials = await tried(tmp_path / "oracle", {task.name: task for task in (gcd, double)}, Oracle(), 2)
    assert [trial.reward for trial in trials] == [1.0] * 4


def service(folder: Path, test: str, **verifier: Any) -> Task:
    """Return a task whose agent may leave something running."""
    (task,) = doubling(folder / "tasks", 1).values()
    tests = folder / "tests"
    tests.mkdir()
    (tests / "test.sh").write_text(test)
    return replace(task, verifier=replace(task.verifier, tests=tests, **verifier))


GET = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/page').read().decode())"
ASKS = f"""
for i in $(seq 20); do [ "$(/usr/bin/python3 -c "{GET}" 2>/dev/null)" = hello ] && break; sleep 0.1; done
cat /logs/agent/note /logs/own/log 2>/dev/null
if [ $i -lt 20 ]; then echo 1; else echo 0; fi >/logs/verifier/reward.txt
"""
SERVES = """
printf hello >page; mkdir /logs/own; echo kept >/logs/own/log; echo noted >/logs/agent/note
setsid python3 -m http.server 8000 >/dev/null 2>&1 &
"""


async def test_a_service_that_is_to_be_left_lives_on(tmp_path: Path) -> None:
    assert await told(tmp_path, service(tmp_path, ASKS), {"serves": SERVES}) == {"serves": 1.0}
    assert (tmp_path / "run/trials/double-0-0.1/verifier/output.txt").read_text() == "noted\nkept\n"


async def test_where_no_service_is_asked_for_all_that_was_left_is_ended(tmp_path: Path) -> None:
    assert await told(tmp_path, service(tmp_path, ASKS, leftovers="ended"), {"serves": SERVES}) == {"serves": 0.0}


async def test_what_lives_on_does_not_reach_the_verifiers_folders(tmp_path: Path) -> None:
    test = "for i in 1 2 3 4 5; do echo 0 >/logs/verifier/reward.txt; sleep 0.1; done\n"
    assert await told(tmp_path, service(tmp_path, test), OF_SERVICE) == dict.fromkeys(OF_SERVICE, 0.0)
