from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from running import KEY, environment, lathe, patch, run, says, scripted, start

from lathe.models.script import Call, Refuse, Step, Words
from lathe.models.scripted import ScriptedServer

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)


async def test_a_task_runs_from_the_prompt_to_the_last_message(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    change = "*** Begin Patch\n*** Update File: a.txt\n@@\n-one\n+two\n*** End Patch"
    ran, server = await scripted([run("cat a.txt"), patch(change), run("cat a.txt"), says("Done.")], "go", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert (tmp_path / "a.txt").read_text() == "two\n"
    assert [event["type"] for event in ran.events[:2]] == ["thread.started", "turn.started"]
    assert ran.events[-1]["type"] == "turn.completed"
    assert [item["aggregated_output"] for item in ran.items("command_execution")] == ["one\n", "two\n"]
    assert ran.items("file_change")[0]["changes"] == [{"path": "a.txt", "kind": "update"}]
    assert ran.items("agent_message")[0]["text"] == "Done."
    assert len(server.requests) == 4
    assert KEY not in ran.out + ran.err


async def test_the_last_message_goes_to_stdout_and_the_rest_to_stderr(tmp_path: Path) -> None:
    async with ScriptedServer([run("echo hello"), says("All is well.")]) as server:
        ran = await lathe(
            "exec", "-o", "last.txt", "go", cwd=tmp_path, env=environment(server.base_url, LATHE_MODEL="m")
        )
    assert (ran.code, ran.out) == (0, "All is well.\n")
    assert "$ echo hello" in ran.err
    assert "All is well." not in ran.err
    assert (tmp_path / "last.txt").read_text() == "All is well.\n"


async def test_commands_never_see_the_key(tmp_path: Path) -> None:
    ran, _ = await scripted(
        [run("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'"), says("ok")], "go", cwd=tmp_path
    )
    assert ran.code == 0
    assert KEY not in ran.out
    home = Path(os.environ["LATHE_HOME"])
    assert all(KEY.encode() not in path.read_bytes() for path in home.rglob("*") if path.is_file())


async def test_the_prompt_is_read_from_stdin_only_when_asked(tmp_path: Path) -> None:
    async with ScriptedServer([says("ok")]) as server:
        env = environment(server.base_url, LATHE_MODEL="m")
        ran = await lathe("exec", "-", cwd=tmp_path, env=env, stdin="tüdelü".encode())
        assert ran.code == 0
        assert "tüdelü" in json.dumps(server.requests[0].json(), ensure_ascii=False)


@pytest.mark.parametrize("arguments", [(), ("",), ("   ",), ("-",)])
async def test_an_empty_prompt_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ran = await lathe("exec", *arguments, cwd=tmp_path, env=environment("http://127.0.0.1:9"))
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "prompt is empty" in ran.err


async def test_calls_that_cannot_run_are_told_to_the_model_and_shown(tmp_path: Path) -> None:
    steps = [
        Step(say=(Call("exec_command", "{not json"), Call("exec_comand", '{"cmd":"ls"}'), Call("exec_command", "{}"))),
        says("I see."),
    ]
    ran, server = await scripted(steps, "go", cwd=tmp_path)
    assert ran.code == 0
    assert [event["reason"] for event in ran.of("call.rejected")] == ["malformed", "unknown_tool", "malformed"]
    assert "Did you mean exec_command?" in ran.of("call.rejected")[1]["message"]
    outputs = [item for item in server.requests[1].json()["input"] if item["type"] == "function_call_output"]
    assert len(outputs) == 3


async def test_a_model_that_only_makes_broken_calls_is_stopped(tmp_path: Path) -> None:
    ran, server = await scripted(lambda request: Step(say=(Call("exec_command", "{oops"),)), "go", cwd=tmp_path)
    assert ran.code == 1
    assert len(server.requests) < 20
    assert "in a row" in ran.events[-1]["error"]["message"]


async def test_a_refusal_ends_the_turn_with_its_words(tmp_path: Path) -> None:
    ran, _ = await scripted([Step(say=(Refuse("I can't help with that."),))], "go", cwd=tmp_path)
    assert ran.code == 1
    assert "I can't help with that." in ran.events[-1]["error"]["message"]


async def test_a_patch_that_names_a_file_outside_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    work = tmp_path / "deep" / "work"
    work.mkdir(parents=True)
    target = tmp_path / "passwd"
    target.write_text("root\n")
    bad = "*** Begin Patch\n*** Update File: ../../passwd\n@@\n-root\n+evil\n*** End Patch"
    ran, _ = await scripted([patch(bad), says("ok")], "go", cwd=work)
    assert ran.code == 0
    assert target.read_text() == "root\n"
    assert "refused" in ran.of("call.rejected")[0]["message"]


async def test_a_patch_sent_through_the_shell_is_a_patch(tmp_path: Path) -> None:
    command = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: new.txt\n+hello\n*** End Patch\nEOF"
    ran, _ = await scripted([run(command), says("ok")], "go", cwd=tmp_path)
    assert ran.code == 0
    assert (tmp_path / "new.txt").read_text() == "hello\n"
    assert ran.items("file_change")
    assert not ran.items("command_execution")


async def test_a_repository_without_git_has_a_diff_too(tmp_path: Path) -> None:
    change = "*** Begin Patch\n*** Add File: new.txt\n+hello\n*** End Patch"
    ran, _ = await scripted([patch(change), says("ok")], "go", cwd=tmp_path)
    assert ran.code == 0
    shown = await lathe("diff", "--last", cwd=tmp_path)
    assert "+hello" in shown.out


async def test_the_diff_of_a_git_repository_covers_what_commands_changed(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    (tmp_path / "a.txt").write_text("one\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    (tmp_path / "mine.txt").write_text("the person's own, not committed\n")
    index = (tmp_path / ".git" / "index").read_bytes()
    ran, _ = await scripted([run("echo two > a.txt; echo x > b.txt"), says("ok")], "go", cwd=tmp_path)
    assert ran.code == 0
    shown = (await lathe("diff", cwd=tmp_path)).out
    assert "-one" in shown
    assert "+two" in shown
    assert "b.txt" in shown
    assert "mine.txt" not in shown
    assert (tmp_path / ".git" / "index").read_bytes() == index


async def test_an_image_and_a_schema_reach_the_model(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(PNG)
    (tmp_path / "s.json").write_text('{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}')
    ran, server = await scripted(
        [says("no json"), says('{"n": 1}')],
        "--image",
        "p.png",
        "--output-schema",
        "s.json",
        "-o",
        "o.json",
        "go",
        cwd=tmp_path,
    )
    assert ran.code == 0
    body = server.requests[0].json()
    assert "data:image/png;base64," in json.dumps(body)
    assert body["text"]["format"]["type"] == "json_schema"
    assert json.loads((tmp_path / "o.json").read_text()) == {"n": 1}
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--image", "none.png"), "can't be read"),
        (("--image", "text.txt"), "no image"),
        (("--output-schema", "none.json"), "can't be read"),
        (("--output-schema", "text.txt"), "not JSON"),
        (("-o", "no/such/folder/x"), "can't be written"),
        (("-C", "nowhere"), "not a folder"),
        (("--config", "modle=x"), "modle"),
        (("--config", "approve=maybe"), "approve"),
    ],
)
async def test_bad_options_are_one_sentence_and_exit_2(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "text.txt").write_text("hello")
    ran = await lathe("exec", *arguments, "go", cwd=tmp_path, env=environment("http://127.0.0.1:9"))
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert ran.err.count("\n") == 1


async def test_an_endpoint_that_is_down_ends_with_exit_4(tmp_path: Path) -> None:
    ran = await lathe("exec", "--json", "-m", "m", "go", cwd=tmp_path, env=environment("http://127.0.0.1:9/v1"))
    assert ran.code == 4
    assert ran.events[-1]["type"] == "turn.failed"
    assert ran.events[-1]["error"]["code"] == "model_unreachable"


@pytest.mark.parametrize(("error", "code"), [("auth", 2), ("not_found", 2), ("bad_request", 2), ("quota", 2)])
async def test_an_endpoint_that_refuses_for_good_is_not_asked_again(tmp_path: Path, error: str, code: int) -> None:
    ran, server = await scripted(lambda request: Step(error=error), "--provider", "openai", "go", cwd=tmp_path)
    assert ran.code == code, ran.out
    assert len(server.requests) <= 2
    assert KEY not in ran.out + ran.err


async def test_retries_are_events_and_then_the_turn_goes_on(tmp_path: Path) -> None:
    steps = [Step(error="overloaded"), Step(say=(Words("half"),), cut_after_events=3), run("echo x"), says("Done.")]
    ran, _ = await scripted(steps, "go", cwd=tmp_path)
    assert ran.code == 0, ran.err
    assert len(ran.of("step.retry")) == 2
    assert [item["text"] for item in ran.items("agent_message")] == ["Done."]


async def test_garbage_for_an_answer_ends_with_exit_4_within_the_budget(tmp_path: Path) -> None:
    ran, _ = await scripted(
        lambda request: Step(status=200, body="<html>hello</html>"), "-c", "retries=1", "go", cwd=tmp_path
    )
    assert ran.code == 4


async def test_a_stalled_stream_is_given_up(tmp_path: Path) -> None:
    stalled = Step(say=(Words("never"),), stall_s=60, stall_after_events=2)
    ran, _ = await scripted(lambda request: stalled, "-c", "idle_timeout_s=0.3", "-c", "retries=1", "go", cwd=tmp_path)
    assert ran.code == 4
    assert len(ran.of("step.retry")) == 1


async def test_an_interrupt_ends_the_command_and_leaves_a_thread_that_goes_on(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    command = f"sh -c 'echo $$ > {marker}; trap \"\" TERM; sleep 300' & sleep 300"
    async with ScriptedServer([run(command), says("Back again.")]) as server:
        env = environment(server.base_url, LATHE_MODEL="m")
        process = await start("exec", "--json", "--sandbox", "danger-full-access", "go", cwd=tmp_path, env=env)
        while not (marker.exists() and marker.read_text().strip()):
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
        assert process.returncode == 130
        assert json.loads(out.splitlines()[-1])["error"]["code"] == "interrupted"
        assert not Path(f"/proc/{marker.read_text().strip()}").exists()
        ran = await lathe("resume", "--last", "--json", "and now?", cwd=tmp_path, env=env)
    assert ran.code == 0, ran.err
    body = server.requests[1].json()
    calls = [item["call_id"] for item in body["input"] if item["type"] == "function_call"]
    outputs = [item["call_id"] for item in body["input"] if item["type"] == "function_call_output"]
    assert calls == outputs
    assert ran.events[0]["resumed"] is True


async def test_a_killed_run_leaves_no_process_and_resumes_with_its_calls_marked(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    command = f"setsid sh -c 'echo $$ > {marker}; sleep 300' & sleep 300"
    async with ScriptedServer([run(command), says("Back again.")]) as server:
        env = environment(server.base_url, LATHE_MODEL="m")
        process = await start("exec", "--json", "--sandbox", "danger-full-access", "go", cwd=tmp_path, env=env)
        while not (marker.exists() and marker.read_text().strip()):
            await asyncio.sleep(0.02)
        process.kill()
        await process.communicate()
        while Path(f"/proc/{marker.read_text().strip()}").exists():
            await asyncio.sleep(0.02)
        ran = await lathe("resume", "--last", "--json", cwd=tmp_path, env=env)
    assert ran.code == 0, ran.err
    assert [event["reason"] for event in ran.of("call.rejected")] == ["interrupted"]
    outputs = [item for item in server.requests[1].json()["input"] if item["type"] == "function_call_output"]
    assert "Lathe stopped" in outputs[0]["output"]


async def test_a_command_that_never_ends_does_not_hold_the_turn(tmp_path: Path) -> None:
    ran, _ = await scripted([run("sleep 1000", wait_s=0.2), says("It runs.")], "go", cwd=tmp_path)
    assert ran.code == 0
    assert ran.items("command_execution")[0]["session_id"] == 1


async def test_a_flood_of_binary_on_stdout_is_cut_and_kept_on_disk(tmp_path: Path) -> None:
    ran, server = await scripted([run("head -c 30000000 /dev/urandom"), says("ok")], "go", cwd=tmp_path)
    assert ran.code == 0
    item = ran.items("command_execution")[0]
    assert len(item["aggregated_output"]) < 100_000
    assert len(server.requests[1].body) < 200_000


async def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = environment("http://127.0.0.1:9", LATHE_HOME=str(tmp_path / "file" / "home"), LATHE_MODEL="m")
    ran = await lathe("exec", "go", cwd=tmp_path, env=env)
    assert ran.code == 1
    assert "can't be written" in ran.err
    assert ran.err.count("\n") == 1


async def test_fork_goes_another_way_and_leaves_the_first_thread_alone(tmp_path: Path) -> None:
    async with ScriptedServer([says("first"), says("second"), says("third")]) as server:
        env = environment(server.base_url, LATHE_MODEL="m")
        first = await lathe("exec", "--json", "remember 7", cwd=tmp_path, env=env)
        thread = first.events[0]["thread_id"]
        forked = await lathe("fork", thread[:20], "--json", "what number?", cwd=tmp_path, env=env)
        assert forked.code == 0, forked.err
        assert forked.events[0]["thread_id"] != thread
        assert "remember 7" in server.requests[1].body.decode()
        listed = await lathe("threads", "--json", cwd=tmp_path, env=env)
    rows = [json.loads(line) for line in listed.out.splitlines()]
    assert {row["title"] for row in rows} == {"remember 7"}
    assert len(rows) == 2


async def test_without_a_key_and_a_task_for_a_model_it_says_so(tmp_path: Path) -> None:
    ran = await lathe("exec", "Write me a poem about the sea", cwd=tmp_path)
    assert ran.code == 1
    assert "language model" in ran.err + ran.out
