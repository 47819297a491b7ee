"""Lathe in Harbor, with Harbor's own package: its agent, and its environments."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from harnesses import BROKEN, INSTRUCTION, TESTS, harbor_python, lay, run

from lathe.sandbox.bubblewrap import find_program

pytestmark = pytest.mark.timeout(300, func_only=True)  # what is not installed yet is installed by a fixture
START = "from harbor.cli.main import app; app()"
AGENT = "lathe.evals.harnesses.harbor:LatheAgent"
ROOM = "lathe.evals.harnesses.harbor_environment:LatheEnvironment"
TEST = """
cp /tests/test_middle.py /app/test_middle.py
cd /app && if python3 -m unittest -q; then echo 1; else echo 0; fi > /logs/verifier/reward.txt
"""
SETTINGS = """
version = "1.0"
[verifier]
timeout_sec = 60.0
[agent]
timeout_sec = 100.0
[environment]
cpus = 1
memory_mb = 1024
"""
READ = """
import sys
from harbor.models.trajectories import Trajectory
Trajectory.model_validate_json(open(sys.argv[1]).read())
"""


@pytest.fixture(scope="module")
def harbor() -> Path:
    return harbor_python()


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Return the folder of a task in Harbor's format."""
    folder = tmp_path / "mend-middle"
    files = {
        "task.toml": SETTINGS,
        "instruction.md": INSTRUCTION,
        "environment/middle.py": BROKEN,
        "environment/test_middle.py": TESTS,
        "tests/test.sh": TEST,
        "tests/test_middle.py": TESTS,
        "solution/solve.sh": "sed -i 's/ or value/ and value/' /app/middle.py",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.skipif(os.geteuid() != 0, reason="rooms are made by root")
@pytest.mark.skipif(find_program() is None, reason="bubblewrap is not installed")
def test_harbor_runs_lathe_and_its_own_agents_in_rooms(harbor: Path, tmp_path: Path, task: Path) -> None:
    env = lay(tmp_path)
    job = {
        "job_name": "job",
        "jobs_dir": str(tmp_path / "jobs"),
        "n_concurrent_trials": 1,
        "environment": {"import_path": ROOM},
        "agents": [{"import_path": AGENT}, {"name": "oracle"}, {"name": "nop"}],
        "tasks": [{"path": str(task)}],
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    run(harbor, tmp_path, "-c", START, "run", "-c", "job.json", "-y", env=env)
    results = {}
    for path in (tmp_path / "jobs" / "job").glob("*/result.json"):
        result = json.loads(path.read_text())
        results[result["agent_info"]["name"]] = (result, path.parent)
    rewards = {name: (result["verifier_result"] or {}).get("rewards") for name, (result, _) in results.items()}
    assert rewards == {"lathe": {"reward": 1.0}, "oracle": {"reward": 1.0}, "nop": {"reward": 0.0}}
    result, folder = results["lathe"]
    assert result["exception_info"] is None and result["agent_result"]["n_input_tokens"] == 0
    assert (folder / "agent" / result["agent_result"]["metadata"]["thread"]).is_file()
    assert not list((folder / "agent").rglob("undo")), "what undo keeps are the task's files"
    run(harbor, tmp_path, "-c", READ, str(folder / "agent" / "trajectory.json"), env=env)
