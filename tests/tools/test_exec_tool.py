"""Commands, with real processes: what the model is told, what goes on, and what is left behind (nothing)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from lathe.protocol.items import FunctionCall
from lathe.sandbox.limits import Limits
from lathe.sandbox.policy import SandboxPolicy
from lathe.tools.base import MalformedCall, RunCommand, ToolContext
from lathe.tools.exec import CommandSessions, ExecCommandTool, WriteStdinTool
from lathe.tools.sessions import LiveOutput

FREE = SandboxPolicy(mode="danger-full-access", network=True)


class Desk:
    """A thread's commands, called as the loop calls them."""

    def __init__(self, cwd: Path, policy: SandboxPolicy = FREE) -> None:
        self.cwd = cwd
        self.policy = policy
        self.sessions = CommandSessions(policy, cwd=cwd, env={"PATH": os.environ["PATH"], "HOME": str(cwd)})
        self.exec = ExecCommandTool(self.sessions)
        self.stdin = WriteStdinTool(self.sessions)
        self.heard = lambda text: None
        self.count = 0

    def context(self, **changes) -> ToolContext:
        self.count += 1
        return ToolContext(
            cwd=self.cwd,
            policy=self.policy,
            spill=self.cwd / ".spill",
            item_id=f"item_{self.count}",
            show=lambda item: None,
            delta=lambda text: self.heard(text),
            **changes,
        )

    async def run(self, cmd, **arguments):
        call = FunctionCall("c", "exec_command", json.dumps({"cmd": cmd, **arguments}))
        return await self.exec.run(self.exec.parse(call), self.context())

    async def type(self, session_id, chars="", **arguments):
        call = FunctionCall("c", "write_stdin", json.dumps({"session_id": session_id, "chars": chars, **arguments}))
        return await self.stdin.run(self.stdin.parse(call), self.context())


@pytest.fixture
async def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    await desk.sessions.aclose()


def body(outcome) -> str:
    return outcome.output.partition("\n")[2]


def head(outcome) -> str:
    return outcome.output.partition(" · ")[0]


def alive(pid: str | int) -> bool:
    try:
        state = Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def test_the_answer_is_the_exit_status_the_time_and_the_output(desk):
    outcome = await desk.run("echo out; echo err >&2; exit 3")
    assert head(outcome) == "exit 3"
    assert body(outcome) == "out\nerr\n"
    assert outcome.item.status == "failed"
    assert outcome.item.exit_code == 3
    assert outcome.item.aggregated_output == "out\nerr\n"
    assert outcome.item.output_path is None
    assert outcome.item.wall_ms >= 0


async def test_a_silent_success_costs_one_short_line(desk):
    outcome = await desk.run("true")
    assert outcome.output.count("\n") == 0
    assert head(outcome) == "exit 0"
    assert outcome.item.status == "completed"
    assert not (desk.cwd / ".spill").exists()


async def test_a_program_that_is_not_there_ends_as_in_bash(desk):
    outcome = await desk.run("no-such-program --flag")
    assert outcome.item.exit_code == 127
    assert "no-such-program: command not found" in body(outcome)


async def test_a_folder_that_is_not_there_is_one_sentence(desk):
    outcome = await desk.run("true", workdir="nowhere")
    assert outcome.item.status == "failed"
    assert outcome.output.startswith(f"The folder {desk.cwd}/nowhere cannot be used")


@pytest.mark.parametrize(
    "cmd",
    [
        "true",
        "false",
        "ls -la .",
        "ls  -1   a b",
        "ls nowhere",
        "seq 1 5",
        "uname -s",
        "printenv PWD HOME TERM",
        "/",
        "./script",
        "./plain",
        "no-such-program",
        "expr 1 = 1",
        "sed -n 2,3p a",
    ],
)
async def test_a_command_started_directly_does_what_it_does_through_bash(desk, cmd):
    (desk.cwd / "a").write_text("1\n2\n3\n")
    (desk.cwd / "b").write_text("")
    (desk.cwd / "script").write_text("echo from a script without a first line: $0\n")
    (desk.cwd / "script").chmod(0o755)
    (desk.cwd / "plain").write_text("not executable")
    direct, shell = await desk.run(cmd), await desk.run(cmd + ";")
    assert body(direct) == body(shell)
    assert direct.item.exit_code == shell.item.exit_code


async def test_a_command_runs_in_the_folder_that_the_call_names(desk):
    (desk.cwd / "sub").mkdir()
    assert body(await desk.run("pwd; echo $PWD", workdir="sub")) == f"{desk.cwd}/sub\n" * 2
    assert body(await desk.run("printenv PWD", workdir="sub")) == f"{desk.cwd}/sub\n"


async def test_a_signal_is_named(desk):
    outcome = await desk.run("kill -9 $$")
    assert head(outcome) == "killed by signal 9 (SIGKILL)"
    assert outcome.item.exit_code == 137


async def test_ten_thousand_lines_are_cut_in_the_middle_and_kept_on_disk(desk):
    outcome = await desk.run("seq 10000", max_output_tokens=500)
    lines = body(outcome).splitlines()
    assert lines[0] == "1"
    assert lines[-1] == "10000"
    assert len(body(outcome)) < 2200
    assert Path(outcome.item.output_path).read_text() == "".join(f"{n}\n" for n in range(1, 10_001))
    assert outcome.item.output_path in outcome.output


async def test_a_flood_of_a_gigabyte_stays_in_bounded_memory(desk):
    await desk.run("true")
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    outcome = await desk.run("yes 0123456789abcdef | head -c 1G")
    assert peak_memory() - before < 8 * 1024
    assert head(outcome) == "exit 0"
    kept = Path(outcome.item.output_path)
    assert kept.stat().st_size == 256 * 1024 * 1024
    assert "the first 256 MiB" in outcome.output
    kept.unlink()


def peak_memory() -> int:
    """Return this process's peak memory in KiB since it was last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


async def test_binary_output_is_not_shown(desk):
    outcome = await desk.run("head -c 100000 /dev/urandom")
    assert "binary output, 100,000 bytes, not shown" in outcome.output
    assert Path(outcome.item.output_path).stat().st_size == 100_000


async def test_a_wait_returns_as_soon_as_the_pattern_is_printed(desk):
    outcome = await desk.run("echo starting; echo listening on 8000; exec sleep 300", until=r"^listening on \d+$")
    assert head(outcome) == "running, session 1, `until` matched"
    assert body(outcome) == "starting\nlistening on 8000\n"
    assert outcome.item.session_id == 1
    assert outcome.item.exit_code is None


async def test_a_pattern_is_found_across_blocks_and_under_colours(desk):
    cmd = r"printf 'rea'; sleep 0.05; printf '\033[32mdy\033[0m'; exec sleep 300"
    assert "matched" in head(await desk.run(cmd, until="ready"))


async def test_a_python_program_that_prints_to_a_pipe_is_seen_at_once(desk):
    cmd = "python3 -c \"import time; print('up'); time.sleep(300)\""
    assert "matched" in head(await desk.run(cmd, until="up"))


async def test_a_command_that_ends_without_the_pattern_ends_the_wait(desk):
    outcome = await desk.run("echo other", until="never")
    assert head(outcome) == "exit 0"
    assert body(outcome) == "other\n"


async def test_a_pattern_that_backtracks_without_end_is_given_up(desk):
    outcome = await desk.run(f"echo {'a' * 60}b; exec sleep 300", until=r"(a+)+$")
    assert "`until` takes too long to match" in head(outcome)
    assert outcome.item.session_id == 1


async def test_each_wait_on_a_session_gives_only_the_new_output(desk):
    first = await desk.run("echo one; read line; echo got $line; read line", stdin=True, until="one")
    assert body(first) == "one\n"
    second = await desk.type(1, "two\n", until="got two")
    assert head(second) == "running, session 1, `until` matched"
    assert body(second) == "got two\n"
    third = await desk.type(1, eof=True, wait_s=30)
    assert head(third) == "exit 1"
    assert body(third) == ""
    gone = await desk.type(1)
    assert gone.output == "There is no session 1; it may have ended."


async def test_output_printed_between_two_calls_satisfies_the_next_wait(desk):
    await desk.run("read go; echo ready; exec sleep 300", stdin=True, wait_s=0)
    session = desk.sessions.get(1)
    session.process.write(b"go\n")
    while not session.buffer.pending():
        await asyncio.sleep(0.01)
    outcome = await desk.type(1, until="ready")
    assert "matched" in head(outcome)
    assert body(outcome) == "ready\n"


async def test_a_program_on_a_terminal_can_be_talked_to(desk):
    asked = await desk.run("python3 -c \"print('hello', input('name? '))\"", tty=True, until=r"name\? $")
    assert body(asked) == "name? "
    answered = await desk.type(1, "Ada\n", wait_s=30)
    assert head(answered) == "exit 0"
    assert body(answered) == "Ada\nhello Ada\n"


@pytest.mark.parametrize("tty", [False, True])
async def test_control_c_interrupts_the_session(desk, tty):
    program = (
        "import time\ntry:\n print('go', flush=True); time.sleep(300)\nexcept KeyboardInterrupt:\n print('stopped')"
    )
    (desk.cwd / "program.py").write_text(program)
    await desk.run("exec python3 program.py", tty=tty, until="go")
    outcome = await desk.type(1, "\u0003", wait_s=30)
    assert head(outcome) == "exit 0"
    assert "stopped" in body(outcome)


async def test_input_for_a_command_that_takes_none_is_refused_in_a_sentence(desk):
    await desk.run("sleep 300", wait_s=0)
    outcome = await desk.type(1, "hello\n")
    assert outcome.output == "Session 1 has no standard input; start such a command with `stdin` or `tty`."


async def test_a_session_can_be_killed_with_all_that_it_started(desk):
    await desk.run("sleep 300 & echo $! > child; echo up; wait", until="up")
    child = (desk.cwd / "child").read_text()
    assert alive(child)
    outcome = await desk.type(1, kill=True)
    assert head(outcome).startswith("killed by signal 15")
    assert not alive(child)
    assert desk.sessions.open_processes() == []


async def test_a_session_that_ended_unseen_is_told_with_the_next_command_once(desk):
    await desk.run("read line; exit 4", stdin=True, wait_s=0)
    session = desk.sessions.get(1)
    session.process.close_stdin()
    await session.process.wait()
    assert (await desk.run("true")).output.endswith("\n[session 1 ended: exit 4]")
    assert "session 1" not in (await desk.run("true")).output
    assert head(await desk.type(1)) == "exit 4"


async def test_a_command_that_never_ends_goes_on_as_a_session_and_dies_with_the_turn(desk):
    outcome = await desk.run("echo $$ > pid; exec sleep 300", wait_s=0, until="x")
    while not (desk.cwd / "pid").exists() or not (desk.cwd / "pid").read_text():
        await asyncio.sleep(0.01)
    assert head(outcome) == "running, session 1"
    (line,) = desk.sessions.open_processes()
    assert line.startswith("session 1: echo $$ > pid; exec sleep 300 (running ")
    await desk.sessions.end_turn()
    assert not alive((desk.cwd / "pid").read_text())
    assert desk.sessions.open_processes() == []
    assert (await desk.type(1)).output == "There is no session 1; it may have ended."
    assert head(await desk.run("true")) == "exit 0"


async def test_what_an_ended_command_left_behind_dies_with_the_turn(desk):
    outcome = await desk.run("(setsid sleep 300 >/dev/null 2>&1 & echo $! > pid) ; sleep 300 & echo $! > other")
    assert head(outcome) == "exit 0"
    pids = [(desk.cwd / name).read_text() for name in ("pid", "other")]
    assert all(alive(pid) for pid in pids)
    await desk.sessions.end_turn()
    assert not any(alive(pid) for pid in pids)
    assert head(await desk.run("true")) == "exit 0"


async def test_a_confined_command_writes_only_where_it_may(tmp_path):
    # Not below /tmp, which one of the sandboxes shares with its commands.
    inside, outside = tmp_path / "inside", Path(tempfile.mkdtemp(prefix=".outside-", dir=Path(__file__).parent))
    inside.mkdir()
    desk = Desk(inside, SandboxPolicy(mode="workspace-write", writable_roots=(str(inside),)))
    try:
        outcome = await desk.run(f"echo yes > here; echo no > {outside}/there; ls {inside}")
        written = list(outside.iterdir())
    finally:
        await desk.sessions.aclose()
        shutil.rmtree(outside)
    assert "here\n" in body(outcome)
    assert (inside / "here").read_text() == "yes\n"
    assert written == []


async def test_cancelling_a_call_kills_the_whole_tree_of_its_command(desk):
    cmd = "setsid sleep 300 & echo $! > first; (sleep 300 & echo $! > second; echo up; wait)"
    task = asyncio.create_task(desk.run(cmd))
    while not (desk.cwd / "second").exists() or not (desk.cwd / "second").read_text():
        await asyncio.sleep(0.01)
    pids = [(desk.cwd / name).read_text() for name in ("first", "second")]
    assert all(alive(pid) for pid in pids)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(alive(pid) for pid in pids)
    assert desk.sessions.open_processes() == []


async def test_output_is_shown_while_the_command_runs(desk):
    desk.heard = lambda text: (desk.cwd / "heard").write_text(text)
    outcome = await desk.run("echo up; while [ ! -s heard ]; do sleep 0.02; done; cat heard")
    assert body(outcome) == "up\nup\n"


async def test_live_output_comes_in_whole_characters_and_stops_after_its_share():
    pieces = asyncio.Queue()
    live = LiveOutput(pieces.put_nowait)
    live.add(b"caf\xc3")
    assert await pieces.get() == "caf"
    live.add(b"\xa9\n")
    live.add(b"x" * 100_000)
    assert await pieces.get() == "é\n" + "x" * (65536 - 6)
    live.add(b"more")
    live.close()
    assert pieces.empty()


async def test_output_that_comes_with_the_end_is_not_shown_twice():
    pieces = []
    live = LiveOutput(pieces.append)
    live.add(b"all of it")
    live.close()
    await asyncio.sleep(0.1)
    assert pieces == []


async def test_only_an_allowed_escalation_leaves_the_sandbox(desk):
    args = desk.exec.parse(FunctionCall("c", "exec_command", '{"cmd": "true", "escalate": true, "reason": "why"}'))
    assert desk.exec.access(args, desk.cwd) == (RunCommand("true", str(desk.cwd), True, "why"),)
    await desk.exec.run(args, desk.context())
    assert desk.sessions._free is None
    outcome = await desk.exec.run(args, desk.context(escalated=True))
    assert head(outcome) == "exit 0"
    assert desk.sessions._free is not None


async def test_what_is_typed_into_a_session_is_judged_as_a_command(desk):
    await desk.run("cat", stdin=True, wait_s=0)

    def typed(chars):
        call = FunctionCall("c", "write_stdin", json.dumps({"session_id": 1, "chars": chars}))
        return desk.stdin.access(desk.stdin.parse(call), desk.cwd)

    assert typed("rm -rf x\n") == (RunCommand("rm -rf x", str(desk.cwd), False, "Input for: cat"),)
    assert typed("") == typed("\u0003") == ()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ({"command": "ls -l"}, "ls -l"),
        ({"command": ["bash", "-lc", "ls | wc"]}, "ls | wc"),
        ({"command": ["ls", "a b"]}, "ls 'a b'"),
        ({"cmd": "ls", "login": True, "shell": "bash"}, "ls"),
        ({"cmd": "ls", "workdir": None, "tty": None}, "ls"),
    ],
)
async def test_the_spellings_of_other_agents_are_understood(desk, arguments, command):
    assert desk.exec.parse(FunctionCall("c", "exec_command", json.dumps(arguments))).command == command


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ({}, 60),
        ({"wait_s": 5}, 5),
        ({"wait_s": "7.5"}, 7.5),
        ({"wait_s": 1e9}, 600),
        ({"wait_s": -1}, 0),
        ({"wait_s": "nan"}, 0),
        ({"timeout_ms": 30000}, 30),
        ({"yield_time_ms": 1000}, 1),
        ({"tty": True}, 5),
        ({"tty": True, "until": "x"}, 60),
    ],
)
async def test_a_wait_has_a_default_and_limits(desk, arguments, seconds):
    assert desk.exec.parse(FunctionCall("c", "exec_command", json.dumps({"cmd": "x", **arguments}))).wait_s == seconds


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("{}", "exec_command: `cmd` is missing."),
        ('{"cmd": "  "}', "exec_command: `cmd` is missing."),
        ('{"cmd": 5}', "exec_command: `cmd` must be a string or a list, not an integer."),
        ('{"cmd": "x", "wait_s": "soon"}', "exec_command: `wait_s` must be a number, not a string."),
        ('{"cmd": "x", "until": "("}', "exec_command: `until` is not a regular expression"),
        ('{"cmd": "a\\u0000b"}', "exec_command: a command cannot hold a NUL character."),
        ('{"cmd": ', "The arguments of exec_command are not valid JSON"),
        ("[1]", "The arguments of exec_command must be a JSON object."),
    ],
)
async def test_arguments_that_make_no_sense_are_named_in_a_sentence(desk, arguments, sentence):
    with pytest.raises(MalformedCall) as raised:
        desk.exec.parse(FunctionCall("c", "exec_command", arguments))
    assert str(raised.value).startswith(sentence)


async def test_a_command_that_meets_a_limit_says_so_to_the_model(tmp_path):
    policy = SandboxPolicy(writable_roots=(str(tmp_path),))
    sessions = CommandSessions(policy, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, limits=Limits(file_mb=1))
    desk = Desk(tmp_path, policy)
    desk.exec = ExecCommandTool(sessions)
    try:
        outcome = await desk.run("echo first; head -c 3000000 /dev/zero > big")
    finally:
        await sessions.aclose()
        await desk.sessions.aclose()
    line = "[limit: a file of 1 MiB was reached; the process was ended; set limits.file_mb]"
    assert (body(outcome).splitlines()[0], body(outcome).splitlines()[-1]) == ("first", line)
    assert line in outcome.item.aggregated_output
