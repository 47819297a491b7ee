"""`lathe eval` as people call it: outcomes, exit codes, and what is wrong said in one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(180, func_only=True)

SOLVE = "#!/bin/bash\necho 42 > /app/answer\n"
TEST = '#!/bin/bash\nif [ "$(cat /app/answer)" = 42 ]; then echo 1; else echo 0; fi > /logs/verifier/reward.txt\n'


def lathe(*words: str | Path, home: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "lathe", "eval", *map(str, words)],
        env={**os.environ, "LATHE_HOME": str(home)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A repair set of one function, in the form of QuixBugs."""
    folder = tmp_path / "set"
    for name, wrong, right in (("double", "x + 2", "x * 2"), ("half", "x - 2", "x // 2")):
        for kind, body in (("python_programs", wrong), ("correct_python_programs", right)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{name}.py").write_text(f"def {name}(x):\n    return {body}\n")
        tests = folder / "python_testcases"
        tests.mkdir(exist_ok=True)
        value = 14 if name == "double" else 3
        (tests / f"test_{name}.py").write_text(
            f"from python_programs.{name} import {name}\n\n\ndef test_it():\n    assert {name}(7) == {value}\n"
        )
    return folder


def test_a_run_from_its_start_to_its_comparison(dataset: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    names = lathe("list", dataset, home=home).stdout.split()
    assert "double" in names and "half" in names
    oracle = lathe("run", dataset, "--agent", "oracle", "--out", tmp_path / "a", home=home)
    assert "2 of 2 trials passed" in oracle.stdout and (tmp_path / "a" / "report.html").exists()
    nothing = lathe("run", dataset, "--agent", "noop", "-k", "2", "--out", tmp_path / "b", home=home)
    assert "0 of 4 trials passed" in nothing.stdout and "pass@2 0.0 %" in nothing.stdout
    told = json.loads(lathe("compare", tmp_path / "a", tmp_path / "b", "--json", home=home).stdout)
    assert told["figures"]["plain"]["difference"] == -1.0
    assert "2 trials, 0 flagged" in lathe("audit", tmp_path / "a", home=home).stdout
    again = lathe("resume", tmp_path / "a", home=home)
    assert "2 of 2 trials passed" in again.stdout
    lathe("report", tmp_path / "a", home=home)


def test_runs_are_kept_and_listed(dataset: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    told = json.loads(lathe("run", dataset, "--agent", "noop", "--limit", "1", "--json", home=home).stdout)
    (row,) = json.loads(lathe("list", "--json", home=home).stdout)
    assert (row["id"], row["ended"], row["of"], row["mean"]) == (told["plan"]["id"], 1, 1, 0.0)
    assert told["summary"]["mean"] == 0.0 and told["trials"][0]["reward"] == 0.0


def test_cheats_are_found(dataset: Path, tmp_path: Path) -> None:
    cheat = tmp_path / "cheat.sh"
    cheat.write_text("mkdir -p /logs/verifier; echo 1 > /logs/verifier/reward.txt\n")
    lathe("run", dataset, "--agent", f"script:{cheat}", "--out", tmp_path / "run", home=tmp_path / "home")
    found = lathe("audit", tmp_path / "run", home=tmp_path / "home", code=1)
    assert "writes-reward" in found.stdout and "2 trials, 2 flagged" in found.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "nowhere"], "There is no"),
        (["run", "{set}", "--agent", "nobody"], "Nobody knows the agent nobody"),
        (["run", "{set}", "--task", "none*"], "is left to run"),
        (["run", "{set}", "--agent", "script:/no/such"], "There is no script"),
        (["run", "{set}", "--agent", "lathe"], "This agent asks a model"),
        (["run", "{set}", "-k", "0"], "--attempts is 1 or more"),
        (["resume", "nowhere"], "is not a run"),
        (["report", "nowhere"], "is not a run"),
        (["compare", "a", "b"], "is not a run"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(words: list[str], said: str, dataset: Path, tmp_path: Path) -> None:
    given = [word.replace("{set}", str(dataset)) for word in words]
    done = lathe(*given, home=tmp_path / "home", code=2)
    assert said in done.stderr


def test_a_run_that_is_interrupted_goes_on(dataset: Path, tmp_path: Path) -> None:
    slow = tmp_path / "slow.sh"
    slow.write_text("sleep 30\n")
    command = [sys.executable, "-m", "lathe", "eval", "run", dataset, "--agent", f"script:{slow}", "-j", "1"]
    process = subprocess.Popen(
        [*map(str, command), "--out", str(tmp_path / "run")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    journal = tmp_path / "run" / "journal.jsonl"
    while not (journal.exists() and b'"began"' in journal.read_bytes()):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130 and "lathe eval resume" in said
    slow.write_text("true\n")
    done = lathe("resume", tmp_path / "run", home=tmp_path / "home")
    assert "0 of 2 trials passed" in done.stdout


def test_a_broken_task_is_named_and_no_fault_is_passed_over(tmp_path: Path) -> None:
    """One task can't be read, one has a Dockerfile that does not build: exit code 1, and the oracle's is not blamed."""
    for name in ("good", "broken"):
        folder = tmp_path / "tasks" / name
        (folder / "environment").mkdir(parents=True)
        (folder / "tests").mkdir()
        (folder / "solution").mkdir()
        (folder / "tests" / "test.sh").write_text(TEST)
        (folder / "solution" / "solve.sh").write_text(SOLVE)
        (folder / "instruction.md").write_text("Write 42 to /app/answer.\n")
        (folder / "environment" / "Dockerfile").write_text("FROM nowhere.invalid/none:1\n")
        (folder / "task.toml").write_text('version = "1.0"\n' if name == "good" else "version = [\n")
    done = lathe("run", tmp_path / "tasks", "--agent", "oracle", home=tmp_path / "home", code=1)
    assert "broken is left out" in done.stderr
    assert "fault: good.1: " in done.stdout
