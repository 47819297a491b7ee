"""Lathe in Inspect, with Inspect's own package: its agent, and its environments as a sandbox."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from harnesses import BROKEN, INSTRUCTION, TESTS, inspect_python, lay, run

from lathe.evals.atif import from_thread
from lathe.sandbox.bubblewrap import find_program

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="rooms are made by root"),
    pytest.mark.skipif(find_program() is None, reason="bubblewrap is not installed"),
    pytest.mark.timeout(120, func_only=True),  # what is not installed yet is installed by a fixture
]
TASK = f"""
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import Score, accuracy, scorer
from inspect_ai.util import sandbox

CHECK = "import middle; assert middle.middle([3, 12, 7]) == 7; assert middle.middle([8, 2, 1]) == 8"


@scorer(metrics=[accuracy()])
def hidden():
    async def score(state, target):
        ran = await sandbox().exec(["python3", "-c", CHECK])
        return Score(value=1 if ran.success else 0, explanation=ran.stderr)

    return score


@task
def repair():
    files = {{"middle.py": {BROKEN!r}, "test_middle.py": {TESTS!r}}}
    return Task(dataset=[Sample(input={INSTRUCTION!r}, files=files)], scorer=hidden(), sandbox="lathe")
"""
SCRIPTED = """
import json
import sys
from inspect_ai import eval as evaluate
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from lathe.evals.harnesses.inspect_agent import THREAD, lathe_agent
from repair import repair

LINE = "sed -i 's/ or value/ and value/' middle.py && python3 -m unittest -q"


def said(output):
    output.usage = ModelUsage(input_tokens=100, output_tokens=20, total_tokens=120)
    return output


outputs = [
    said(ModelOutput.for_tool_call("mockllm/model", "exec_command", {"cmd": LINE})),
    said(ModelOutput.from_content("mockllm/model", "The condition is mended.")),
]
log = evaluate(
    repair(), solver=lathe_agent(), model=get_model("mockllm/model", custom_outputs=outputs), display="none"
)[0]
sample = log.samples[0]
told = {
    "status": log.status,
    "error": sample.error and sample.error.message,
    "score": log.results and log.results.scores[0].metrics["accuracy"].value,
    "tokens": {name: usage.total_tokens for name, usage in log.stats.model_usage.items()},
    "requests": sum(event.event == "model" for event in sample.events),
    "roles": [message.role for message in sample.messages],
    "answer": sample.output.completion,
    "thread": sample.store.get(THREAD, ""),
}
open("told.json", "w").write(json.dumps(told))
"""
CHECKS = """
import asyncio
import json
from inspect_ai.util._sandbox import self_check
from lathe.evals.harnesses.inspect_sandbox import LatheSandbox, LatheSandboxConfig

SLOW = ("test_exec_timeout_kills_process", "test_exec_timeout_kills_child_processes")


async def main():
    found = {}
    for config in (LatheSandboxConfig(), LatheSandboxConfig(user="nobody", workdir="/tmp")):
        rooms = await LatheSandbox.sample_init("checks", config, {})
        for name in (name for name in dir(self_check) if name.startswith("test_") and name not in SLOW):
            try:
                await getattr(self_check, name)(rooms["default"])
            except Exception as error:
                found[f"{config.user or 'root'}: {name}"] = f"{type(error).__name__}: {error}"
        await LatheSandbox.sample_cleanup("checks", config, rooms, False)
    await LatheSandbox.task_cleanup("checks", None, True)
    open("told.json", "w").write(json.dumps(found))


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def inspect() -> Path:
    return inspect_python()


def test_a_sample_is_solved_through_the_model_of_inspect(inspect: Path, tmp_path: Path) -> None:
    env = lay(tmp_path)
    (tmp_path / "repair.py").write_text(TASK)
    (tmp_path / "scripted.py").write_text(SCRIPTED)
    run(inspect, tmp_path, "scripted.py", env=env)
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["status"], told["error"], told["score"]) == ("success", None, 1)
    assert told["tokens"] == {"mockllm/model": 240} and told["requests"] == 2
    assert told["roles"][-3:] == ["assistant", "tool", "assistant"] and told["answer"] == "The condition is mended."
    thread = tmp_path / "thread.jsonl"
    thread.write_text(told["thread"])
    trajectory = from_thread(thread)
    assert trajectory.final_metrics is not None and trajectory.final_metrics.total_prompt_tokens == 200


def test_the_engine_solves_a_sample_by_the_command_line_without_a_model(inspect: Path, tmp_path: Path) -> None:
    env = lay(tmp_path)
    (tmp_path / "repair.py").write_text(TASK)
    command = ["eval", "repair.py", "--solver", "lathe/agent", "-S", "engine=mend", "--model", "mockllm/model"]
    run(inspect, tmp_path, "-m", "inspect_ai", *command, "--display", "none", "--log-format", "json", env=env)
    (log,) = (tmp_path / "logs").glob("*.json")
    told = json.loads(log.read_text())
    assert told["status"] == "success" and told["results"]["scores"][0]["metrics"]["accuracy"]["value"] == 1
    assert told["samples"][0]["output"]["model"] == "lathe/mend"


def test_the_sandbox_passes_the_checks_that_inspect_has_for_sandboxes(inspect: Path, tmp_path: Path) -> None:
    env = lay(tmp_path)
    (tmp_path / "checks.py").write_text(CHECKS)
    run(inspect, tmp_path, "checks.py", env=env)
    failed = json.loads((tmp_path / "told.json").read_text())
    # Root may read and write what has no permission for it, as in a container.
    of_root = {"read_file_not_allowed", "write_binary_file_without_permissions", "write_text_file_without_permissions"}
    assert {name: why for name, why in failed.items() if name not in {f"root: test_{one}" for one in of_root}} == {}
