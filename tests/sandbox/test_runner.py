"""What every tier does alike: start, speak, end."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from conftest import Box, MakeBox

from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner, SpawnError


async def test_exit_codes_and_signals_come_back(box: Box) -> None:
    assert await box.run("exit 0") == (0, "")
    assert await box.run("exit 3") == (3, "")
    assert await box.run("kill -KILL $$") == (-signal.SIGKILL, "")
    assert await box.run("kill -TERM $$") == (-signal.SIGTERM, "")


async def test_stdout_and_stderr_come_in_the_order_in_which_they_were_written(box: Box) -> None:
    assert await box.run("for n in 1 2 3; do echo out $n; echo err $n >&2; done") == (
        0,
        "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n",
    )


async def test_all_output_is_there_when_the_exit_status_is(box: Box) -> None:
    for _ in range(50):
        status, output = await box.run("printf %060000d 7")
        assert (status, len(output)) == (0, 60000)


async def test_a_child_that_holds_the_pipe_does_not_delay_the_exit_status(box: Box) -> None:
    output = bytearray()
    process = await box.spawn("(read -t 60 <> <(:); echo late) & echo early", output.extend)
    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert output == b"early\n"


async def test_a_child_in_the_background_is_still_heard_after_the_exit(box: Box) -> None:
    output = bytearray()
    heard = asyncio.Event()

    def hear(block: bytes) -> None:
        output.extend(block)
        if b"late" in output:
            heard.set()

    go = box.workspace / "go"
    os.mkfifo(go)
    process = await box.spawn("(read x < go; echo late) & echo early", hear)
    assert await process.wait() == 0
    go.write_text("x\n")
    await asyncio.wait_for(heard.wait(), 20)
    assert output == b"early\nlate\n"


async def test_without_stdin_a_command_reads_end_of_file(box: Box) -> None:
    assert await box.run("cat; echo done") == (0, "done\n")


async def test_stdin_is_written_and_closed(box: Box) -> None:
    output = bytearray()
    process = await box.spawn("cat; echo done", output.extend, stdin=True)
    text = os.urandom(3_000_000)
    process.write(text)
    process.close_stdin()
    assert await asyncio.wait_for(process.wait(), 30) == 0
    assert output == text + b"done\n"


async def test_writing_to_a_process_that_does_not_read_harms_nothing(box: Box) -> None:
    process = await box.spawn("exec 0<&-; sleep 0.01", stdin=True)
    for _ in range(20):
        process.write(bytes(100_000))
    assert await process.wait() == 0
    process.write(b"more")
    process.close_stdin()


async def test_a_terminal_is_a_controlling_one_of_the_size_asked_for(box: Box) -> None:
    status, output = await box.run("tty; stty size; echo to the terminal > /dev/tty", tty=(31, 77))
    device, size, line = output.splitlines()
    assert status == 0
    assert device.startswith("/dev/pts/")
    assert (size, line) == ("31 77", "to the terminal")


async def test_a_terminal_takes_input_end_of_file_and_interrupts(box: Box) -> None:
    output = bytearray()
    seen = asyncio.Event()

    def hear(block: bytes) -> None:
        output.extend(block)
        seen.set()

    async def until(word: bytes) -> None:
        while word not in output:
            seen.clear()
            await asyncio.wait_for(seen.wait(), 20)

    process = await box.spawn(
        "stty -echo; trap 'echo caught; exit 7' INT; echo ready; read a; echo got $a; cat; echo end;"
        " while :; do sleep 0.1; done",
        hear,
        tty=(24, 80),
    )
    await until(b"ready")
    process.write(b"word\n")
    await until(b"got word")
    process.close_stdin()
    await until(b"end")
    process.interrupt()
    await until(b"caught")
    assert await asyncio.wait_for(process.wait(), 20) == 7


async def test_an_interrupt_without_a_terminal_reaches_the_group(box: Box) -> None:
    ready = asyncio.Event()
    process = await box.spawn("echo ready; sleep 60; echo no", lambda _block: ready.set())
    await ready.wait()
    process.interrupt()
    assert await asyncio.wait_for(process.wait(), 20) == -signal.SIGINT


async def test_a_flood_starves_nobody_and_is_not_kept(box: Box) -> None:
    sizes: list[int] = []
    flood = await box.spawn("exec cat /dev/zero", lambda block: sizes.append(len(block)))
    for _ in range(20):
        assert await asyncio.wait_for(box.run("echo fine"), 20) == (0, "fine\n")
    await flood.kill()
    assert sum(sizes) > 1_000_000
    assert max(sizes) <= 1 << 20
    assert flood.returncode == -signal.SIGTERM


async def test_a_program_that_is_not_there_is_a_clear_error_and_the_next_command_runs(box: Box) -> None:
    spawn = box.runner.spawn
    here = str(box.workspace)
    (box.workspace / "text").write_text("no program")
    with pytest.raises(SpawnError, match=r"no program `no-such-program`"):
        await spawn(["no-such-program"], cwd=here, on_output=len)
    with pytest.raises(SpawnError, match=r"no program `/no/such`"):
        await spawn(["/no/such"], cwd=here, on_output=len)
    with pytest.raises(SpawnError, match=r"/no/folder cannot be used"):
        await spawn(["true"], cwd="/no/folder", on_output=len)
    with pytest.raises(SpawnError, match=r"permission denied"):
        await spawn([f"{here}/text"], cwd=here, on_output=len)
    with pytest.raises(SpawnError, match=r"too long"):
        await spawn(["true", "x" * 300_000], cwd=here, on_output=len)
    with pytest.raises(SpawnError, match=r"NUL"):
        await spawn(["true", "a\0b"], cwd=here, on_output=len)
    with pytest.raises(SpawnError, match=r"no command"):
        await spawn([], cwd=here, on_output=len)
    assert await box.run("echo fine") == (0, "fine\n")


async def test_a_long_command_arrives_whole(box: Box) -> None:
    status, output = await box.run(f"x={'y' * 120_000}; echo ${{#x}}", env={"BIG": "z" * 100_000})
    assert (status, output) == (0, "120000\n")


async def test_bytes_that_are_no_text_go_through(box: Box) -> None:
    name = os.fsdecode(b"caf\xe9")
    (box.workspace / name).write_text("inside")
    assert await box.run(f"cat '{name}'") == (0, "inside")


async def test_the_environment_is_the_one_given_and_what_the_call_adds(box: Box) -> None:
    status, output = await box.run("echo $EXTRA $HOME; env | grep -c LATHE_COMMAND", env={"EXTRA": "a b"})
    assert (status, output) == (0, f"a b {os.environ['HOME']}\n1\n")


async def test_many_commands_at_once_keep_their_own_output(box: Box) -> None:
    results = await asyncio.gather(*(box.run(f"echo {n}; exit {n}") for n in range(60)))
    assert results == [(n, f"{n}\n") for n in range(60)]


async def test_a_thousand_commands_leave_no_open_file(box: Box) -> None:
    async def one() -> None:
        process = await box.runner.spawn(["/bin/true"], cwd="/", on_output=len, stdin=True)
        await process.wait()

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    await one()
    await box.run("true", tty=(24, 80))
    before, server_before = count(), await _files_of_the_server(box)
    for _ in range(100):
        await asyncio.gather(*(one() for _ in range(10)))
    for _ in range(10):
        await box.run("true", tty=(24, 80))
        with pytest.raises(SpawnError):
            await box.runner.spawn(["true"], cwd="/no/folder", on_output=len)
    await asyncio.sleep(0)
    assert count() == before
    # The first count may have seen the terminal of the command before it, which the server had yet to close.
    assert await _files_of_the_server(box) <= server_before


async def _files_of_the_server(box: Box) -> int:
    """Return how many files the exec server has open while it rests, by its number out here.

    Inside it has another, which in the machine's /proc is that of a stranger.
    """
    await box.run("true")  # once this is over, the server has done all that was asked of it before
    server = box.runner._server
    assert server is not None
    return len(os.listdir(f"/proc/{server.inner_pid}/fd"))


async def test_commands_inherit_no_file_of_lathe_or_the_server(make: MakeBox, tier: str) -> None:
    leaking = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaking, True)
    try:
        box = await make(tier)
    finally:
        os.close(leaking)
    # the last one is the folder that ls reads
    assert await box.run("ls /proc/self/fd") == (0, "0\n1\n2\n3\n")


async def test_commands_start_with_default_signals(box: Box) -> None:
    _status, output = await box.run("grep -E '^Sig(Ign|Blk)' /proc/self/status")
    blocked, ignored = (int(line.split()[1], 16) for line in output.splitlines())
    assert blocked == 0
    assert ignored & (1 << 31) - 1 == 0  # above are those of the C library


async def test_start_may_be_called_at_once_from_everywhere(workspace: Path, environment: dict[str, str]) -> None:
    runner = Runner(SandboxPolicy(mode="danger-full-access"), cwd=workspace, env=environment)
    try:
        await asyncio.gather(*(runner.start() for _ in range(10)))
        process = await runner.spawn(["/bin/true"], cwd="/", on_output=len)
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        servers = [pid for pid in children if b"exec_server" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(servers) == 1
        assert await process.wait() == 0
    finally:
        await runner.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await runner.start()


async def test_a_runner_that_never_started_closes(workspace: Path, environment: dict[str, str]) -> None:
    await Runner(SandboxPolicy(), cwd=workspace, env=environment).aclose()


async def test_a_runner_closes_while_it_starts(workspace: Path, environment: dict[str, str]) -> None:
    runner = Runner(SandboxPolicy(mode="danger-full-access"), cwd=workspace, env=environment)
    starting = asyncio.create_task(runner.start())
    await asyncio.sleep(0)
    await runner.aclose()
    await asyncio.gather(starting, return_exceptions=True)


async def test_a_start_that_is_cancelled_is_used_by_the_next_or_closed(
    workspace: Path, environment: dict[str, str]
) -> None:
    for turns in range(8):
        runner = Runner(SandboxPolicy(mode="danger-full-access"), cwd=workspace, env=environment)
        starting = asyncio.create_task(runner.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        if turns % 2:
            process = await runner.spawn(["/bin/true"], cwd="/", on_output=len)
            assert await process.wait() == 0
        await runner.aclose()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert [pid for pid in children if b"exec_server" in Path(f"/proc/{pid}/cmdline").read_bytes()] == []


async def test_a_listener_that_fails_does_not_hang_the_wait(make: MakeBox) -> None:
    box = await make("none")

    def fail(_block: bytes) -> None:
        raise ValueError

    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
    process = await box.spawn("echo x; exit 3", fail)
    assert await asyncio.wait_for(process.wait(), 20) == 3
    assert [type(error) for error in errors] == [ValueError]
