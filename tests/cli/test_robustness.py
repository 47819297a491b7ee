"""What goes wrong around a run: each ends in one sentence and the right exit code, and the thread goes on."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running import KEY, Ran, environment, lathe, run, says, scripted, start

from lathe.models.script import Step, Words
from lathe.models.scripted import ScriptedServer
from lathe.store.threads import list_threads

LATHE = [sys.executable, "-m", "lathe"]


async def shell(line: str, *, cwd: Path, env: dict[str, str]) -> Ran:
    """Run a line of bash in which `$LATHE` is the program."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", line, cwd=cwd, env=env | {"LATHE": " ".join(LATHE)}, stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    return Ran(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


def one_sentence(ran: Ran, code: int, words: str) -> None:
    assert ran.code == code, ran.err
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith("lathe: ")
    assert words in ran.err


@contextmanager
def small_disk(folder: Path, size: str = "64k") -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


# The standard streams.


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
        (">/dev/full", 1, "Standard output can't be written: No space left on device."),
        ("--json >/dev/full", 1, "Standard output can't be written: No space left on device."),
    ],
)
async def test_a_stream_that_is_closed_or_full_ends_in_no_traceback(
    tmp_path: Path, ending: str, code: int, said: str
) -> None:
    async with ScriptedServer([run("echo hi"), says("Döne ✓"), says("Back.")]) as server:
        env = environment(server.base_url, LATHE_MODEL="m")
        ran = await shell(f"$LATHE exec go {ending}", cwd=tmp_path, env=env)
        assert ran.code == code
        assert said in ran.err
        assert "Traceback" not in ran.err
        again = await lathe("resume", "--last", cwd=tmp_path, env=env)
    assert again.code == 0
    assert (Path(os.environ["LATHE_HOME"]) / "threads").is_dir()


async def test_a_reader_that_goes_away_stops_the_turn_and_the_thread_goes_on(tmp_path: Path) -> None:
    # Whether the model is asked once more before the loss is noticed is a matter of chance.
    async with ScriptedServer(lambda request: says("Back.") if request.number else run("sleep 0.2")) as server:
        env = environment(server.base_url, LATHE_MODEL="m")
        ran = await shell("set -o pipefail; $LATHE exec --json go | head -1", cwd=tmp_path, env=env)
        one_sentence(ran, 130, "reader of standard output is gone")
        again = await lathe("resume", "--last", "--json", cwd=tmp_path, env=env)
    assert again.code == 0, again.err


@pytest.mark.parametrize("command", ["--help", "--version", "threads", "config show"])
async def test_short_answers_mind_a_full_disk_and_not_a_reader_that_leaves(tmp_path: Path, command: str) -> None:
    await scripted([says("ok")], "go", cwd=tmp_path)
    full = await shell(f"$LATHE {command} >/dev/full", cwd=tmp_path, env=environment())
    one_sentence(full, 1, "No space left on device")
    left = await shell(f"set -o pipefail; $LATHE {command} | true", cwd=tmp_path, env=environment())
    assert (left.code, left.err) == (0, "")


async def test_an_output_that_is_not_utf_8_loses_letters_and_not_the_run(tmp_path: Path) -> None:
    async with ScriptedServer([says("Döne ✓")]) as server:
        env = environment(server.base_url, LATHE_MODEL="m", PYTHONIOENCODING="ascii")
        ran = await lathe("exec", "go", cwd=tmp_path, env=env)
    assert (ran.code, ran.out) == (0, "D?ne ?\n")


async def test_a_prompt_from_a_closed_stdin_is_empty(tmp_path: Path) -> None:
    ran = await shell("$LATHE exec - <&-", cwd=tmp_path, env=environment("http://127.0.0.1:9"))
    one_sentence(ran, 2, "prompt is empty")


# Signals.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("times", [1, 3])
async def test_signals_interrupt_however_many_come(tmp_path: Path, number: int, times: int) -> None:
    async with ScriptedServer([run('trap "" TERM INT HUP; echo up > up; sleep 1000'), says("Back.")]) as server:
        env = environment(server.base_url, LATHE_MODEL="m")
        process = await start("exec", "--json", "-s", "danger-full-access", "go", cwd=tmp_path, env=env)
        while not (tmp_path / "up").exists():
            await asyncio.sleep(0.01)
        for _ in range(times):
            process.send_signal(number)
            await asyncio.sleep(0.01)
        out, err = await process.communicate()
        assert process.returncode == 130
        assert err == b"lathe: The turn was interrupted.\n"
        assert json.loads(out.splitlines()[-1])["error"]["code"] == "interrupted"
        again = await lathe("resume", "--last", cwd=tmp_path, env=env)
    assert again.code == 0


async def test_signals_until_the_very_end_leave_the_exit_code(tmp_path: Path) -> None:
    stalled = Step(say=(Words("never"),), stall_s=60, stall_after_events=2)
    async with ScriptedServer([stalled]) as server:
        env = environment(server.base_url, LATHE_MODEL="m")
        with (tmp_path / "err").open("wb") as err:
            process = subprocess.Popen([*LATHE, "exec", "go"], cwd=tmp_path, env=env, stderr=err)
        while not server.requests:
            await asyncio.sleep(0.01)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.0005)
    assert process.returncode == 130
    assert "Traceback" not in (tmp_path / "err").read_text()
    assert "Exception ignored" not in (tmp_path / "err").read_text()


async def test_a_signal_that_was_ignored_from_the_start_stays_ignored(tmp_path: Path) -> None:
    async with ScriptedServer([run("echo up > up; sleep 0.2"), says("Done.")]) as server:
        env = environment(server.base_url, LATHE_MODEL="m")
        process = await start(
            "exec", "go", cwd=tmp_path, env=env, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
        )
        while not (tmp_path / "up").exists():
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGHUP)
        out, _ = await process.communicate()
    assert (process.returncode, out) == (0, b"Done.\n")


# Folders and disks.


@pytest.mark.parametrize("command", [("exec", "go"), ("threads", "--here"), ("diff",), ("resume", "--last")])
async def test_a_current_folder_that_is_gone_is_one_sentence(tmp_path: Path, command: tuple[str, ...]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f"rmdir ../gone; $LATHE {' '.join(command)}"
    one_sentence(await shell(line, cwd=gone, env=environment("http://127.0.0.1:9")), 2, "current folder is not there")


async def test_a_folder_that_is_deleted_by_a_command_does_not_end_the_turn(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    ran, _ = await scripted([run("rm -rf ../work; echo deleted"), run("echo again"), says("ok")], "go", cwd=work)
    assert ran.code == 0, ran.err


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("LATHE_HOME", "/dev/null/x", 1, "can't be written"),
        ("LATHE_HOME", "~no-such-user/x", 2, "Nobody knows which folder"),
        ("HOME", "/dev/null", 1, "can't be written"),
    ],
)
async def test_a_home_that_is_none_is_one_sentence(tmp_path: Path, name: str, value: str, code: int, said: str) -> None:
    env = environment("http://127.0.0.1:9", LATHE_MODEL="m")
    del env["LATHE_HOME"]
    one_sentence(await lathe("exec", "go", cwd=tmp_path, env=env | {name: value}), code, said)


async def test_a_home_that_is_relative_is_taken_from_the_current_folder(tmp_path: Path) -> None:
    async with ScriptedServer([says("ok")]) as server:
        env = environment(server.base_url, LATHE_MODEL="m", LATHE_HOME="own/home")
        ran = await lathe("exec", "go", cwd=tmp_path, env=env)
    assert ran.code == 0
    assert list((tmp_path / "own" / "home" / "threads").glob("*.jsonl"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_a_disk_that_fills_up_in_mid_turn_ends_it_and_the_thread_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as home:
        async with ScriptedServer([run("seq 1 4000"), run("seq 1 4000"), run("seq 1 4000"), says("Back.")]) as server:
            env = environment(server.base_url, LATHE_MODEL="m", LATHE_HOME=str(home))
            (home / "ballast").write_bytes(bytes(16_000))
            ran = await lathe("exec", "--json", "go", cwd=tmp_path, env=env)
            one_sentence(ran, 1, "is full")
            assert ran.events[-1]["error"]["code"] == "storage"
            (home / "ballast").unlink()
            server._steps = (says("Back."),)
            server._count = 0
            server._ready.clear()
            again = await lathe("resume", "--last", "--json", cwd=tmp_path, env=env)
            assert again.code == 0, again.err
            sent = server.requests[-1].json()["input"]
    calls = [item["call_id"] for item in sent if item["type"] == "function_call"]
    outputs = [item["call_id"] for item in sent if item["type"] == "function_call_output"]
    assert sorted(calls) == sorted(outputs)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_a_full_workspace_is_for_the_model_to_deal_with(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as work:
        change = "*** Begin Patch\n*** Add File: new.txt\n+hello\n*** End Patch"
        from running import patch

        ran, _ = await scripted(
            [run("head -c 1000000 /dev/zero > big"), patch(change), run("rm big"), patch(change), says("ok")],
            "go",
            cwd=work,
        )
        assert ran.code == 0, ran.err
        assert [item["status"] for item in ran.items("file_change")] == ["failed", "completed"]
        assert (work / "new.txt").read_text() == "hello\n"


# Threads.


async def one_thread(cwd: Path) -> tuple[str, Path]:
    ran, _ = await scripted([run("echo hi"), says("ok")], "remember 7", cwd=cwd)
    thread = ran.events[0]["thread_id"]
    return thread, Path(os.environ["LATHE_HOME"]) / "threads" / f"{thread}.jsonl"


async def test_a_journal_of_a_newer_format_is_refused_and_not_touched(tmp_path: Path) -> None:
    thread, journal = await one_thread(tmp_path)
    lines = journal.read_bytes().splitlines()
    header = json.loads(lines[0]) | {"format": 99}
    # The last line has no end yet, and only the newer Lathe could tell whether it is whole.
    journal.write_bytes(b"\n".join([json.dumps(header).encode(), *lines[1:], b'{"kind":"new']))
    before = journal.read_bytes()
    env = environment("http://127.0.0.1:9", LATHE_MODEL="m")
    for command in (("resume", thread, "go"), ("fork", thread), ("diff", thread)):
        one_sentence(await lathe(*command, cwd=tmp_path, env=env), 2, "written by a newer Lathe")
    assert journal.read_bytes() == before
    assert "remember 7" in (await lathe("threads", cwd=tmp_path)).out


@pytest.mark.parametrize("lost", [b'"function_call"', b'"function_call_output"'])
async def test_a_damaged_line_is_told_and_leaves_calls_and_outputs_paired(tmp_path: Path, lost: bytes) -> None:
    thread, journal = await one_thread(tmp_path)
    lines = journal.read_bytes().split(b"\n")
    at = next(number for number, line in enumerate(lines) if lost in line)
    lines[at] = lines[at][:-10] + b"\xff\x00"
    journal.write_bytes(b"\n".join(lines))
    async with ScriptedServer([says("ok")]) as server:
        ran = await lathe("resume", thread, "go", cwd=tmp_path, env=environment(server.base_url, LATHE_MODEL="m"))
        assert ran.code == 0, ran.err
        assert "left out: 1." in ran.err
        sent = server.requests[0].json()["input"]
    kinds = [item["type"] for item in sent if item["type"].startswith("function_call")]
    assert kinds in ([], ["function_call", "function_call_output"])


async def test_journals_that_cannot_be_read_do_not_hide_the_others(tmp_path: Path) -> None:
    _, journal = await one_thread(tmp_path)
    (journal.parent / "01-folder.jsonl").mkdir()
    (journal.parent / "02-empty.jsonl").write_text("")
    (journal.parent / "03-garbage.jsonl").write_text("garbage\n")
    ran = await lathe("threads", cwd=tmp_path)
    assert (ran.code, ran.out.count("\n"), ran.err) == (0, 1, "")
    for name in ("02", "03"):
        one_sentence(await lathe("fork", name, cwd=tmp_path), 2, "is not a thread's journal")


async def test_a_thread_that_runs_elsewhere_can_be_forked_and_not_resumed(tmp_path: Path) -> None:
    async with ScriptedServer([run("echo up > up; sleep 1000"), says("From the fork.")]) as server:
        env = environment(server.base_url, LATHE_MODEL="m")
        process = await start("exec", "--json", "go", cwd=tmp_path, env=env)
        while not (tmp_path / "up").exists():
            await asyncio.sleep(0.01)
        one_sentence(await lathe("resume", "--last", cwd=tmp_path, env=env), 2, "open in another Lathe process")
        forked = await lathe("fork", "--last", "--json", "and now?", cwd=tmp_path, env=env)
        assert forked.code == 0, forked.err
        assert [event["reason"] for event in forked.of("call.rejected")] == ["interrupted"]
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 130


async def test_two_runs_in_one_folder_are_two_threads(tmp_path: Path) -> None:
    (first, _), (second, _) = await asyncio.gather(
        scripted([run("echo one"), says("1")], "one", cwd=tmp_path),
        scripted([run("echo two"), says("2")], "two", cwd=tmp_path),
    )
    assert (first.code, second.code) == (0, 0)
    assert {thread.title for thread in list_threads(Path(os.environ["LATHE_HOME"]))} == {"one", "two"}


async def test_ids_that_fit_more_or_nothing_are_one_sentence(tmp_path: Path) -> None:
    await one_thread(tmp_path)
    thread, _ = await one_thread(tmp_path)
    env = environment("http://127.0.0.1:9", LATHE_MODEL="m")
    one_sentence(await lathe("resume", thread[:3], "go", cwd=tmp_path, env=env), 2, "more than one thread")
    one_sentence(await lathe("resume", "../../etc/passwd", "go", cwd=tmp_path, env=env), 2, "fits no thread")
    for command in ("resume", "fork"):
        one_sentence(await lathe(command, cwd=tmp_path, env=env), 2, "Say which thread")


async def test_a_thread_whose_folder_is_gone_says_so(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    thread, _ = await one_thread(work)
    shutil.rmtree(work)
    env = environment("http://127.0.0.1:9", LATHE_MODEL="m")
    one_sentence(await lathe("resume", thread, "go", cwd=tmp_path, env=env), 2, "not there any more")


async def test_a_fork_knows_what_changed_before_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    await scripted([run("echo new > made.txt"), says("ok")], "go", cwd=tmp_path)
    fork = (await lathe("fork", "--last", cwd=tmp_path)).out.strip()
    assert "+new" in (await lathe("diff", fork, cwd=tmp_path)).out


async def test_a_diff_that_is_only_of_patches_says_why(tmp_path: Path) -> None:
    await scripted([run("echo new > made.txt"), says("ok")], "go", cwd=tmp_path)
    shown = await lathe("diff", "--last", cwd=tmp_path)
    assert shown.out == ""
    one_sentence(shown, 0, "is in no git repository")


async def test_errors_never_repeat_the_key(tmp_path: Path) -> None:
    said = json.dumps({"error": {"message": f"bad key {KEY}"}})
    for body in (said, f"bad key {KEY}"):
        answer: Any = lambda request, body=body: Step(status=401, body=body)  # noqa: E731
        ran, _ = await scripted(answer, "--debug", "go", cwd=tmp_path)
        assert ran.code == 2
        assert KEY not in ran.out + ran.err
    home = Path(os.environ["HOME"])
    assert all(KEY.encode() not in path.read_bytes() for path in home.rglob("*") if path.is_file())
