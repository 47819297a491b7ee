"""Trajectories: what Lathe writes is what Harbor reads, and whatever is read can be written again."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from harnesses import harbor_python
from hypothesis import given
from hypothesis import strategies as st
from running import patch, run, says, scripted

from lathe.evals.atif import (
    Agent,
    ContentPart,
    FinalMetrics,
    ImageSource,
    Metrics,
    Observation,
    ObservationResult,
    Step,
    ToolCall,
    Trajectory,
    TrajectoryError,
    from_claude_events,
    from_exec_events,
    from_thread,
    read,
    write,
)
from lathe.models.script import Call, Thought, Tokens, Words
from lathe.models.script import Step as Answer

STREAMS = Path(__file__).parent / "streams"
CHANGE = "*** Begin Patch\n*** Update File: a.txt\n@@\n-one\n+two\n*** End Patch"
ANSWERS = [
    Answer(
        say=(
            Thought("The file comes first."),
            Words("I read it."),
            Call("exec_command", '{"cmd":"cat a.txt"}'),
            Call("exec_command", '{"cmd":"ls"}'),
        ),
        usage=Tokens(input=120, cached=100, output=30, reasoning=8),
    ),
    patch(CHANGE),
    Answer(say=(Call("exec_command", "{bad"),)),
    run("false"),
    says("Done."),
]


async def worked(folder: Path) -> tuple[Path, list[str]]:
    """Let a scripted model work in `folder`; return the thread's journal and the lines that were printed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.txt").write_text("one\n")
    ran, _ = await scripted(ANSWERS, "Make it two.", cwd=folder)
    assert ran.code == 0, ran.err
    [journal] = Path(os.environ["LATHE_HOME"]).glob("threads/*.jsonl")
    return journal, ran.out.splitlines()


def harbor(folder: Path, *trajectories: bytes) -> list[str]:
    """Return what Harbor's own reader says of each trajectory, "" where it takes it."""
    paths = [folder / f"trajectory-{number}.json" for number in range(len(trajectories))]
    for path, data in zip(paths, trajectories, strict=True):
        path.write_bytes(data)
    script = (
        "import json, sys\n"
        "from harbor.models.trajectories import Trajectory\n"
        "said = []\n"
        "for path in sys.argv[1:]:\n"
        "    data = open(path, 'rb').read()\n"
        "    try:\n"
        "        again = Trajectory.model_validate_json(data).to_json_dict()\n"
        "        said.append('' if again == json.loads(data) else 'reads it otherwise')\n"
        "    except ValueError as error:\n"
        "        said.append(str(error))\n"
        "print(json.dumps(said))"
    )
    done = subprocess.run(
        [harbor_python(), "-c", script, *paths], capture_output=True, text=True, check=True, env={"HOME": str(folder)}
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


async def test_a_thread_becomes_a_trajectory_that_harbor_reads(tmp_path: Path) -> None:
    journal, lines = await worked(tmp_path / "work")
    found = from_thread(journal)
    assert [step.source for step in found.steps] == ["user", "user", "agent", "agent", "agent", "agent", "agent"]
    first = found.steps[2]
    assert (first.message, first.reasoning_content) == ("I read it.", "The file comes first.")
    assert [call.arguments for call in first.tool_calls or ()] == [{"cmd": "cat a.txt"}, {"cmd": "ls"}]
    assert first.observation is not None and "one" in str(first.observation.results[0].content)
    assert (first.observation.results[0].extra or {})["exit_code"] == 0
    assert first.metrics == Metrics(120, 30, 100, extra={"reasoning_tokens": 8})
    patched = found.steps[3].observation
    assert patched is not None and "+two" in (patched.results[0].extra or {})["diff"]
    rejected = found.steps[4].observation
    assert rejected is not None and (rejected.results[0].extra or {})["reason"] == "malformed"
    assert found.final_metrics == FinalMetrics(520, 70, 100, total_steps=7)
    assert read(write(found)) == found
    printed = from_exec_events(lines, name="lathe", prompt="Make it two.")
    assert [call.function_name for step in printed.steps for call in step.tool_calls or ()] == [
        "exec_command",
        "exec_command",
        "apply_patch",
        "exec_command",
    ]
    assert printed.final_metrics is not None and printed.final_metrics.total_prompt_tokens == 520
    assert harbor(tmp_path, write(found), write(printed)) == ["", ""]


def test_what_codex_and_claude_code_print_becomes_a_trajectory(tmp_path: Path) -> None:
    codex = from_exec_events((STREAMS / "codex.jsonl").read_text().splitlines(), model="gpt-x", prompt="Look around.")
    assert [len(step.tool_calls or ()) for step in codex.steps] == [0, 2, 1, 0]
    assert codex.steps[1].reasoning_content == "**Scan the files**"
    assert codex.final_metrics == FinalMetrics(24763, 122, 24448, total_steps=4)
    claude = from_claude_events((STREAMS / "claude.jsonl").read_bytes().splitlines())
    assert [(step.message, step.reasoning_content) for step in claude.steps] == [("I look.", "Look."), ("Done.", None)]
    assert claude.steps[0].metrics == Metrics(114, 20, 100, extra={"cache_write_tokens": 10})
    assert claude.steps[0].observation == Observation((ObservationResult("t1", "a.txt"),))
    assert claude.final_metrics == FinalMetrics(117, 25, 100, 0.0125, total_steps=2)
    assert (claude.agent.version, claude.agent.model_name) == ("2.1.0", "claude-x")
    assert harbor(tmp_path, write(codex), write(claude)) == ["", ""]


words = st.text(st.characters(codec="utf-8"), max_size=8)
counts = st.none() | st.integers(0, 10**9)
extras = st.none() | st.dictionaries(words, st.integers() | words | st.none(), max_size=2)
parts = st.one_of(
    st.builds(ContentPart, st.just("text"), words),
    st.builds(ContentPart, st.just("image"), st.none(), st.builds(ImageSource, st.just("image/png"), words)),
)
contents = words | st.lists(parts, max_size=3).map(tuple)
metrics = st.builds(Metrics, counts, counts, counts, st.none() | st.floats(0, 100), extra=extras)


@st.composite
def steps(draw: st.DrawFn, number: int) -> Step:
    source = draw(st.sampled_from(["system", "user", "agent"]))
    names = draw(st.lists(words, max_size=2, unique=True)) if source == "agent" else []
    asked = [st.just(name) for name in names]
    results = draw(
        st.lists(
            st.builds(ObservationResult, st.one_of(st.none(), *asked), st.none() | contents, extra=extras), max_size=2
        )
    )
    return Step(
        step_id=number,
        source=source,
        message=draw(contents),
        timestamp=draw(st.none() | st.datetimes().map(lambda t: t.isoformat() + "Z")),
        reasoning_content=draw(st.none() | words) if source == "agent" else None,
        tool_calls=tuple(ToolCall(name, draw(words), {"a": draw(words)}, draw(extras)) for name in names) or None,
        observation=Observation(tuple(results)) if results else None,
        metrics=draw(st.none() | metrics) if source == "agent" else None,
        llm_call_count=draw(st.none() | st.integers(1, 5)),
        extra=draw(extras),
    )


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    return Trajectory(
        schema_version=draw(st.sampled_from(["ATIF-v1.0", "ATIF-v1.7", "ATIF-v1.8"])),
        agent=Agent(draw(words), draw(words), draw(st.none() | words)),
        steps=tuple(draw(steps(number)) for number in range(1, draw(st.integers(1, 4)) + 1)),
        session_id=draw(st.none() | words),
        notes=draw(st.none() | words),
        final_metrics=draw(st.none() | st.builds(FinalMetrics, counts, counts, counts)),
        extra=draw(extras),
    )


@given(trajectories())
def test_what_is_written_is_read_again(trajectory: Trajectory) -> None:
    assert read(write(trajectory)) == trajectory


NAMES = ["steps", "step_id", "source", "message", "tool_calls", "arguments", "observation", "results", "content"]
NAMES += ["source_call_id", "metrics", "agent", "type", "text", "timestamp", "llm_call_count", "final_metrics"]
NAMES += ["total_steps", "subagent_trajectories", "trajectory_id", "subagent_trajectory_ref", "reasoning_content"]
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words
VALUES |= st.sampled_from(["agent", "assistant", "user", "text", "image"])
json_values = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | words, inner, max_size=4),
    max_leaves=25,
)


@given(json_values, st.lists(st.dictionaries(st.sampled_from(NAMES), json_values, max_size=6), min_size=1, max_size=3))
def test_whatever_is_read_may_be_written(anything: object, some: list[object]) -> None:
    for raw in (anything, {"steps": some, "agent": anything, "subagent_trajectories": [{"steps": some}, anything]}):
        try:
            found = read(json.dumps(raw))
        except TrajectoryError:
            continue
        assert read(write(found)) == found


@given(st.lists(json_values | st.dictionaries(st.sampled_from(["type", "item", "message", "usage"]), json_values)))
def test_no_line_of_another_agent_breaks_the_reading(raw: list[object]) -> None:
    lines = [json.dumps(one) for one in raw]
    lines += [json.dumps({"type": kind, "item": one, "message": one, "usage": one}) for one in raw for kind in KINDS]
    lines += [
        json.dumps({"type": "item.completed", "item": {"type": kind, "id": one}}) for one in raw for kind in ITEMS
    ]
    write(from_exec_events(lines))
    write(from_claude_events(lines))


KINDS = ["item.started", "item.completed", "turn.completed", "turn.failed", "assistant", "user", "result", "system"]
ITEMS = ["command_execution", "file_change", "agent_message", "mcp_tool_call", "todo_list", "error"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": "ATIF-v9"}, "ATIF-v9"),
        ({"steps": ()}, "at least one step"),
        ({"steps": (Step(step_id=2, source="user", message=""),)}, "ids count from 1"),
        ({"steps": (Step(step_id=1, source="user", message="", metrics=Metrics()),)}, "is not the agent's"),
        ({"steps": (Step(step_id=1, source="user", message="", timestamp="noon"),)}, "ISO 8601"),
        (
            {
                "steps": (
                    Step(step_id=1, source="user", message="", observation=Observation((ObservationResult("x"),))),
                )
            },
            "did not call",
        ),
    ],
)
def test_what_harbor_would_refuse_is_not_written(change: dict[str, object], said: str, tmp_path: Path) -> None:
    good = {
        "schema_version": "ATIF-v1.7",
        "agent": Agent("a", "1"),
        "steps": (Step(step_id=1, source="user", message=""),),
    }
    bad = Trajectory(**{**good, **change})
    with pytest.raises(TrajectoryError, match=said):
        write(bad)
