"""Whole sessions in a real terminal, with a scripted model at the other end of a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from running import lathe, patch, run, says
from terminal import talking

from lathe.models.script import Call, Step, Thought, Words
from lathe.models.scripted import ScriptedServer

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")

UNTIL_GO = "until [ -e go ]; do sleep 0.02; done"


def outside(command: str, why: str = "it must") -> Step:
    """A step that wishes to run a command outside the sandbox."""
    return run(command, escalate=True, reason=why)


def home() -> Path:
    return Path(os.environ["LATHE_HOME"])


async def test_looking_in_leaves_nothing_behind(tmp_path: Path) -> None:
    async with talking(cwd=tmp_path) as terminal:
        await terminal.type("", "C-d")
        await terminal.sees("left with 0")
    assert not home().exists()
    assert list(tmp_path.iterdir()) == []


async def test_a_turn_is_streamed_and_every_word_of_it_stands_there_once(tmp_path: Path) -> None:
    words = "I look first.\n\nThere are **two** things:\n- one\n- two\n\n"
    steps = [Step(say=(Thought("Hm, files."), Words(words), *run("echo hello").say)), says("All is well.")]
    async with ScriptedServer(steps) as server, talking(cwd=tmp_path, base_url=server.base_url) as terminal:
        await terminal.enter("look around")
        await terminal.sees("2 steps")
        text = await terminal.sees(r"› ?\s*\Z")
        await terminal.type("", "C-d")
        await terminal.sees("lathe resume [0-9a-f-]{36}")
        await terminal.sees("left with 0")
    parts = [
        "› look around",
        "Hm, files.",
        "I look first.",
        "There are two things:",
        "- two",
        "$ echo hello",
        "  exit 0",
        "All is well.",
    ]
    assert [text.count(part) for part in parts] == [1] * len(parts), text
    assert sorted(parts, key=text.index) == parts


async def test_words_typed_while_a_command_runs_are_read_at_the_next_step(tmp_path: Path) -> None:
    steps = [run(f"echo begun; {UNTIL_GO}", wait_s=60), says("Tabs it is.")]
    async with ScriptedServer(steps) as server, talking(cwd=tmp_path, base_url=server.base_url) as terminal:
        await terminal.enter("go on")
        await terminal.sees("^  begun")
        await terminal.sees("working · .*interrupts")
        await terminal.enter("use tabs")
        await terminal.sees(r"› use tabs  \(waiting\)")
        (tmp_path / "go").touch()
        await terminal.sees("Tabs it is")
        text = await terminal.sees_no("working")
    assert "(waiting)" not in text
    assert text.count("› use tabs") == 1
    assert "use tabs" in server.requests[1].body.decode()
    assert "use tabs" not in server.requests[0].body.decode()


async def test_ctrl_c_interrupts_the_turn_and_what_runs_and_the_thread_goes_on(tmp_path: Path) -> None:
    steps = [run(f"echo $$ > pid; {UNTIL_GO}", wait_s=60), says("Still here.")]
    async with ScriptedServer(steps) as server, talking(cwd=tmp_path, base_url=server.base_url) as terminal:
        await terminal.enter("go on")
        await terminal.sees("interrupts")
        await terminal.sees(r"\$ echo")
        await terminal.type("half a line")
        await terminal.sees("half a line")
        await terminal.type("", "C-c")
        await terminal.sees_no("half a line")
        assert "interrupted" not in await terminal.text()
        await terminal.type("", "Escape")
        await terminal.sees("The turn was interrupted")
        await terminal.enter("are you there?")
        await terminal.sees("Still here")
    assert len(server.requests) == 2


async def test_ctrl_c_twice_leaves_in_the_middle_of_a_turn(tmp_path: Path) -> None:
    async with (
        ScriptedServer([run(UNTIL_GO, wait_s=60)]) as server,
        talking(cwd=tmp_path, base_url=server.base_url) as terminal,
    ):
        await terminal.enter("go on")
        await terminal.sees("working")
        await terminal.type("", "C-c", "C-c")
        await terminal.sees("left with 0")


async def test_a_terminal_that_goes_away_ends_the_session(tmp_path: Path) -> None:
    async with ScriptedServer([run(f"touch begun; {UNTIL_GO}", wait_s=60)]) as server:
        async with talking(cwd=tmp_path, base_url=server.base_url) as terminal:
            await terminal.enter("go on")
            await terminal.sees("working")
        journal = next((home() / "threads").glob("*.jsonl"))
        async with asyncio.timeout(30):
            while b'"turn.failed"' not in journal.read_bytes():
                await asyncio.sleep(0.02)


async def test_an_approval_is_answered_with_yes_no_words_or_for_longer(tmp_path: Path) -> None:
    steps = [
        outside("echo first > /dev/null; touch never"),
        outside("touch once"),
        outside("touch twice"),
        outside("touch twice"),
        outside("mkdir plain"),
        says("Done."),
    ]
    async with ScriptedServer(steps) as server, talking(cwd=tmp_path, base_url=server.base_url) as terminal:
        await terminal.enter("go on")
        await terminal.sees(r"^\? run this command\?")
        text = await terminal.sees("y once · s this session or p this project: `touch …` · n no")
        for part in ("echo first > /dev/null; touch never", "why: it must", f"in:  {tmp_path}", "outside the sandbox"):
            assert part in text
        await terminal.enter("make a branch instead")
        await terminal.sees("✗ no: make a branch instead")
        await terminal.sees("^  touch once")
        await terminal.enter("y")
        await terminal.sees("✓ allowed once")
        await terminal.sees("^  touch twice")
        await terminal.enter("s")
        await terminal.sees("✓ allowed for this session: `touch …`")
        await terminal.sees("^  mkdir plain")
        await terminal.enter("n")
        text = await terminal.sees("Done.")
    assert text.count("? run this command?") == 4
    assert not (tmp_path / "never").exists()
    assert (tmp_path / "once").exists()
    assert (tmp_path / "twice").exists()
    assert not (tmp_path / "plain").exists()
    assert "make a branch instead" in server.requests[1].body.decode()


async def test_a_family_is_allowed_for_the_project_and_later_sessions_know_it(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for number in (1, 2):
        steps = [outside(f"mkdir folder{number}"), says("Done.")]
        async with ScriptedServer(steps) as server, talking(cwd=tmp_path, base_url=server.base_url) as terminal:
            await terminal.enter("go on")
            if number == 1:
                await terminal.sees("s this session or p this project: `mkdir …`")
                await terminal.enter("p")
            text = await terminal.sees("Done.")
            assert ("run this command?" in text) == (number == 1)
        assert (tmp_path / f"folder{number}").is_dir()


async def test_a_command_hides_nothing_from_the_person_who_allows_it(tmp_path: Path) -> None:
    command = "echo harmless\r\x1b[2Kecho \u202eevil"
    async with (
        ScriptedServer([outside(command), says("Done.")]) as server,
        talking(cwd=tmp_path, base_url=server.base_url) as terminal,
    ):
        await terminal.enter("go on")
        await terminal.sees(r"^  echo harmless\\x0d\\x1b\[2Kecho \\u202eevil")
        await terminal.enter("n")
        await terminal.sees("Done.")


async def test_a_question_of_the_model_waits_for_its_answer_and_a_half_typed_line_comes_back(tmp_path: Path) -> None:
    question = json.dumps({"question": "Which colour?", "options": ["red", "green"]})
    asks = Step(say=(*run(UNTIL_GO, wait_s=60).say, Call("ask_user", question)))
    async with (
        ScriptedServer([asks, says("Green.")]) as server,
        talking(cwd=tmp_path, base_url=server.base_url) as terminal,
    ):
        await terminal.enter("go on")
        await terminal.sees("working")
        await terminal.type("by the way")
        await terminal.sees("› by the way")
        (tmp_path / "go").touch()
        await terminal.sees("  2. green")
        await terminal.sees("1-2 picks")
        await terminal.enter("7")
        await terminal.sees("no option 7")
        await terminal.enter("2")
        await terminal.sees("✓ green")
        await terminal.sees("Green.")
        await terminal.sees("^› by the way")
    answer = json.loads(server.requests[1].body)["input"][-1]
    assert answer["output"] == "green"


async def test_a_pasted_block_is_one_prompt_and_a_backslash_goes_on_in_the_next_line(tmp_path: Path) -> None:
    async with (
        ScriptedServer([says("One."), says("Two.")]) as server,
        talking(cwd=tmp_path, base_url=server.base_url) as terminal,
    ):
        await terminal.paste("line one\nline two\n\nline four")
        await terminal.sees("^  line four")
        await terminal.type("", "Enter")
        await terminal.sees("One.")
        await terminal.enter("here\\")
        await terminal.enter("there")
        await terminal.sees("Two.")
        await terminal.type("", "Up")
        await terminal.sees(r"› here\s+there\s*\Z")
    prompts = [json.loads(request.body)["input"][-1]["content"][0]["text"] for request in server.requests]
    assert prompts == ["line one\nline two\n\nline four", "here\nthere"]
    assert stat.S_IMODE((home() / "history").stat().st_mode) == 0o600


async def test_the_commands_say_and_do_what_they_should(tmp_path: Path) -> None:
    change = "*** Begin Patch\n*** Add File: new.txt\n+fresh\n*** End Patch"
    steps = [patch(change), says("Made."), says("A summary."), says("Second.")]
    async with ScriptedServer(steps) as server, talking(cwd=tmp_path, base_url=server.base_url) as terminal:
        await terminal.type("/")
        await terminal.sees("^  /compact")
        await terminal.type("he", "Tab", "Enter")
        await terminal.sees("Ctrl-C +clear the line")
        await terminal.enter("/satus")
        await terminal.sees("There is no /satus. Did you mean /status?")
        await terminal.enter("/diff")
        await terminal.sees("no thread yet")
        await terminal.enter("make a file")
        await terminal.sees("2 steps")
        await terminal.enter("/diff")
        await terminal.sees(r"^\+\+\+ .*new.txt\n(.*\n)?\+fresh")
        await terminal.enter("/status")
        await terminal.sees("tokens +200 in, 20 out")
        await terminal.enter("/compact")
        await terminal.sees("will be compacted before")
        await terminal.enter("go on")
        await terminal.sees("~ conversation compacted")
        await terminal.sees("Second.")
        await terminal.enter("/model other-1")
        await terminal.sees("From the next turn on: other-1")
        await terminal.enter("/etc/hosts has what?")
        await terminal.sees("script has 4 steps")
        await terminal.enter("/quit")
        await terminal.sees("left with 0")
    assert json.loads(server.requests[-1].body)["model"] == "other-1"


async def test_threads_are_left_and_gone_on_with(tmp_path: Path) -> None:
    steps = [says("First answer."), says("Second answer."), says("Third answer."), says("Fourth answer.")]
    async with ScriptedServer(steps) as server:
        async with talking("a first thing", cwd=tmp_path, base_url=server.base_url) as terminal:
            await terminal.sees("First answer")
            await terminal.sees_no("interrupts")
            await terminal.enter("/new")
            await terminal.sees("begins a new thread")
            await terminal.enter("another thing")
            await terminal.sees("Second answer")
            await terminal.sees_no("interrupts")
            await terminal.enter("/resume")
            await terminal.sees("1. .*a first thing")
            await terminal.enter("1")
            await terminal.sees("^resumed")
            await terminal.enter("once more")
            await terminal.sees("Third answer")
            await terminal.sees_no("interrupts")
            await terminal.type("", "C-d")
            await terminal.sees("left with 0")
        async with talking("resume", "--last", "-m", "scripted-1", cwd=tmp_path, base_url=server.base_url) as terminal:
            await terminal.sees("› once more")
            await terminal.sees("Third answer")
            await terminal.enter("and again")
            await terminal.sees("Fourth answer")
    last = server.requests[-1].body.decode()
    assert "a first thing" in last
    assert "another thing" not in last
    assert len(list((home() / "threads").glob("*.jsonl"))) == 2


async def test_a_terminal_that_changes_its_size_keeps_its_prompt(tmp_path: Path) -> None:
    async with (
        ScriptedServer([run(f"echo begun; {UNTIL_GO}", wait_s=60), says("Done.")]) as server,
        talking(cwd=tmp_path, base_url=server.base_url) as terminal,
    ):
        await terminal.enter("go on")
        await terminal.sees("^  begun")
        await terminal.resize(50, 12)
        await terminal.sees("working")
        await terminal.resize(120, 40)
        await terminal.type("more words")
        await terminal.sees("› more words")
        (tmp_path / "go").touch()
        await terminal.sees("Done.")
        text = await terminal.sees_no("working")
    assert text.count("Done.") == 1


async def test_a_model_that_can_not_be_reached_is_told_and_the_prompt_stays(tmp_path: Path) -> None:
    async with talking("-c", "retries=0", cwd=tmp_path) as terminal:
        await terminal.enter("hello")
        await terminal.sees("^lathe: .*127.0.0.1:1")
        await terminal.type("", "C-c")
        await terminal.sees("Ctrl-D or /quit leaves")
        await terminal.type("", "C-d")
        await terminal.sees("left with 0")


@pytest.mark.parametrize("words", [(), ("-m", "scripted-1"), ("make the tests pass",)])
async def test_without_a_terminal_one_sentence_names_exec(words: tuple[str, ...], tmp_path: Path) -> None:
    ran = await lathe(*words, cwd=tmp_path, stdin=b"hello")
    assert ran.code == 2
    assert "needs a terminal" in ran.err
    assert "lathe exec" in ran.err
    assert ran.err.count("\n") == 1


async def test_a_mistyped_command_is_no_prompt(tmp_path: Path) -> None:
    ran = await lathe("resum", cwd=tmp_path)
    assert ran.code == 2
    assert "no command 'resum'. Did you mean `lathe resume`?" in ran.err


async def test_a_turn_is_taken_back_and_its_words_stand_there_to_be_edited(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept\n")
    steps = [says("Hello."), run("rm kept.txt; echo 1 > made.txt"), says("Done."), says("Again.")]
    async with ScriptedServer(steps) as server, talking(cwd=tmp_path, base_url=server.base_url) as terminal:
        await terminal.enter("/undo")
        await terminal.sees("There is no turn to take back")
        await terminal.enter("say hello")
        await terminal.sees("Hello")
        await terminal.sees_no("interrupts")  # else what follows is said into the same turn
        await terminal.enter("make it worse")
        await terminal.sees("Done")
        await terminal.sees_no("interrupts")
        assert not (tmp_path / "kept.txt").exists()
        await terminal.enter("/undo never")
        await terminal.sees("/undo takes a number of turns, `files`, or nothing")
        await terminal.enter("/undo")
        await terminal.sees(r"Took back the turn “make it worse”\.\s+restored kept.txt\s+removed made.txt")
        await terminal.sees(r"› make it worse\s*\Z")
        await terminal.type("", "C-u")
        await terminal.enter("and again")
        await terminal.sees("Again")
        await terminal.enter("/quit")
        await terminal.sees("left with 0")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    sent = server.requests[-1].body.decode()
    assert "say hello" in sent and "make it worse" not in sent


async def test_the_person_is_asked_about_a_host_while_the_command_waits(tmp_path: Path) -> None:
    command = "curl -s -m 60 -o /dev/null http://host.lathe.internal:9/ http://no.example/; echo $?"
    steps = [run(command), run("curl -s -m 60 http://host.lathe.internal:9/; echo $?"), says("Done.")]
    async with ScriptedServer(steps) as server, talking(cwd=tmp_path, base_url=server.base_url) as terminal:
        await terminal.enter("go on")
        await terminal.sees(r"^\? let it reach this host\?")
        text = await terminal.sees("^  host.lathe.internal:9")
        assert "by:  curl" in text
        await terminal.enter("s")
        await terminal.sees("✓ allowed for this session")
        await terminal.sees("^  no.example:80")
        await terminal.enter("n")
        text = await terminal.sees("Done.")
    assert text.count("let it reach this host?") == 2
    assert "the person did not allow it" in server.requests[1].body.decode()
    assert "it cannot be reached: connection refused" in server.requests[2].body.decode()
