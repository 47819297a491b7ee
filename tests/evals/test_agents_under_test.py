"""Agents under test in real environments, each with a scripted model behind the run's own gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from trivial import doubling, plan_of

from lathe.evals import atif
from lathe.evals.access import RunGateway, for_model
from lathe.evals.agents.known import open_agent
from lathe.evals.agents.lathe import LatheAgent
from lathe.evals.environments.maker import open_maker
from lathe.evals.journal import RunFolder
from lathe.evals.progress import Progress
from lathe.evals.record import Trial
from lathe.evals.run import Runner
from lathe.models.script import Call, Step, Tokens, Words
from lathe.models.scripted import ScriptedServer
from lathe.protocol.errors import ConfigError

sys.path.append(str(Path(__file__).parent.parent / "gateway"))
import clients

pytestmark = pytest.mark.timeout(180, func_only=True)

DO = "echo $(( $(cat /app/number) * 2 )) > /app/answer; echo doubled"
MINI_ENDS = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo The number is doubled."
USAGE = Tokens(input=1200, cached=200, output=80)


def steps(tool: str, arguments: dict[str, Any]) -> list[Step]:
    return [
        Step(say=(Words("I double it."), Call(tool, json.dumps(arguments))), usage=USAGE),
        Step(say=(Words("The number is doubled."),), usage=USAGE),
    ]


async def tried(
    name: str, script: list[Step] | None, folder: Path, environ: dict[str, str] | None = None, more: str = ""
) -> tuple[RunFolder, Trial]:
    """Return what an agent made of doubling 1; `more` is asked besides."""
    task = doubling(folder / "tasks", 2)["double-1"]
    task = replace(task, instruction=task.instruction + more)
    gateway: RunGateway | None = None
    async with ScriptedServer(script or []) as server:
        access = None
        if script is not None:
            table = {"base_url": server.base_url, "wire": "responses", "key_env": ""}
            gateway = for_model("scripted/model-1", {"scripted": table}, {"PATH": "/usr/bin:/bin"})
            access = await gateway.start()
        try:
            agent = open_agent(name, "scripted/model-1", access, folder / "cache", environ or {})
            run = RunFolder.create(folder / "run", plan_of({task.name: task}, agent=name, retries=0))
            maker = open_maker("rootfs", folder / "cache")
            progress = Progress(1, [], quiet=True)
            (trial,) = await Runner(run, {task.name: task}, agent, maker, progress).run()
        finally:
            if gateway is not None:
                await gateway.close()
    return run, trial


async def test_lathe_with_a_model(tmp_path: Path) -> None:
    run, trial = await tried("lathe", steps("exec_command", {"cmd": DO}), tmp_path)
    assert (trial.verdict, trial.reward, trial.ended, trial.why) == ("scored", 1.0, "done", "")
    assert (trial.cost.input_tokens, trial.cost.output_tokens, trial.cost.requests) == (2400, 160, 2)
    assert [(one.model, one.requests, one.substitution) for one in trial.served] == [("model-1", 2, "")]
    assert trial.answer == "The number is doubled." and trial.times.agent > trial.times.tool > 0
    folder = run.trial(trial.id)
    told = json.loads((folder / trial.trajectory).read_text())
    assert told["schema_version"].startswith("ATIF") and DO in json.dumps(told).replace('\\"', '"')
    assert "doubled" in (folder / "terminal.jsonl").read_text()
    from lathe.store.journal import replay

    assert replay(folder / trial.thread).turns == 1, "`lathe resume` can open it"


def test_what_another_model_served_is_on_record(tmp_path: Path) -> None:
    from lathe.evals.access import Access
    from lathe.evals.environments.base import Ran
    from lathe.protocol.codec import encode
    from lathe.protocol.events import ModelServed, TurnCompleted
    from lathe.protocol.usage import Usage

    events = [ModelServed("model-1", "model-0", "too busy"), TurnCompleted(Usage(10, 0, 5), steps=3)]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(map(encode, events)) + b"\n{torn")
    agent = open_agent("lathe", "scripted/model-1", Access("http://127.0.0.1:1", "key"), tmp_path, {})
    assert isinstance(agent, LatheAgent)
    work = agent.read(tmp_path, Ran(0, b"", 1.0))
    told = [(one.requested, one.model, one.requests, one.substitution) for one in work.served]
    assert told == [("model-1", "model-1", 2, ""), ("model-1", "model-0", 1, "too busy")]
    assert agent.read(tmp_path, Ran(4, b"", 1.0)).ended == "unreachable"
    assert agent.read(tmp_path, Ran(3, b"", 1.0)).ended == "stopped"


async def test_mend_asks_no_model(tmp_path: Path) -> None:
    _, trial = await tried("mend", None, tmp_path)
    assert (trial.verdict, trial.reward, trial.cost.requests) == ("scored", 0.0, 0)


async def test_codex_cli(tmp_path: Path) -> None:
    script = steps("exec_command", {"cmd": DO})
    _, trial = await tried("codex", script, tmp_path, {"LATHE_EVAL_CODEX": str(clients.codex())})
    assert (trial.verdict, trial.reward, trial.ended) == ("scored", 1.0, "done"), trial.why
    assert trial.answer == "The number is doubled." and trial.cost.output_tokens == 160
    assert trial.trajectory


async def test_claude_code(tmp_path: Path) -> None:
    script = steps("Bash", {"command": DO, "description": "Double the number"})
    _, trial = await tried("claude-code", script, tmp_path, {"LATHE_EVAL_CLAUDE": str(clients.claude())})
    assert (trial.verdict, trial.reward, trial.ended) == ("scored", 1.0, "done"), trial.why
    assert trial.answer == "The number is doubled." and trial.trajectory


def test_a_program_that_can_not_be_seen_in_an_environment_is_told_of_at_once(tmp_path: Path) -> None:
    alone = tmp_path / "mini"
    alone.write_text("#!/bin/sh\n")
    with pytest.raises(ConfigError, match="does not lie beside a Python that has minisweagent"):
        open_agent("mini-swe-agent", "p/m", None, tmp_path, {"LATHE_EVAL_MINI": str(alone)})
    with pytest.raises(ConfigError, match="not on this machine"):
        open_agent("mini-swe-agent", "p/m", None, tmp_path, {"LATHE_EVAL_MINI": str(tmp_path / "none")})


async def test_mini_swe_agent(tmp_path: Path) -> None:
    script = [
        Step(say=(Words("I double it."), Call("bash", json.dumps({"command": DO}))), usage=USAGE),
        Step(say=(Words("No call."),), usage=USAGE),
        Step(say=(Call("bash", json.dumps({"command": "cat /app/answer; env | grep -c LD_LIBRARY"})),), usage=USAGE),
        Step(say=(Words("Done."), Call("bash", json.dumps({"command": MINI_ENDS}))), usage=USAGE),
    ]
    more = " Ünd 😀\u2028\x85\x7f." + " Think." * 30_000  # which no argument of a command could hold
    run, trial = await tried("mini-swe-agent", script, tmp_path, {"LATHE_EVAL_MINI": str(clients.mini())}, more)
    assert (trial.verdict, trial.reward, trial.ended, trial.why) == ("scored", 1.0, "done", ""), trial.why
    assert trial.answer == "The number is doubled." and trial.steps == 4
    assert (trial.cost.input_tokens, trial.cost.cached_tokens, trial.cost.output_tokens) == (4800, 800, 320)
    told = atif.read((run.trial(trial.id) / trial.trajectory).read_bytes())
    assert told.agent.name == "mini-swe-agent" and told.agent.version == clients.MINI.partition("==")[2]
    asked = [call.arguments["command"] for step in told.steps for call in step.tool_calls or ()]
    assert [asked[0], asked[-1]] == [DO, MINI_ENDS]
    printed = [one.content for step in told.steps if step.observation for one in step.observation.results]
    assert printed[:2] == ["doubled\n", "2\n0\n"], "and its libraries are not handed on to its commands"
    assert f"Double 1.{more}" in str(told.steps[1].message) and told.steps[2].metrics is not None
    assert told.steps[2].metrics.prompt_tokens == 1200 and told.steps[2].timestamp


def test_a_python_by_a_way_with_dots_is_mounted_where_it_lies(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lathe.evals.agents.programs import *;"
        "print(sys.executable, this_python(), *(one.there for one in python_mounts(Path(sys.argv[1]))))"
    )
    command = ["../bin/python", "-c", code, str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=Path(sys.prefix, "lib"), capture_output=True, text=True, check=True)
    given, program, *mounts = done.stdout.split()
    assert ".." in given
    assert program == f"{sys.prefix}/bin/python"
    assert sys.prefix in mounts and not any(".." in mount for mount in mounts)
