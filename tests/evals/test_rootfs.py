"""Rooms: a root file system, an overlay for each trial, and bubblewrap. Nothing here is made up: it takes root."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from lathe.evals.environments.base import Change, Door, EnvironmentFault, Mount
from lathe.evals.environments.rootfs import RootfsEnvironment, RootfsMaker
from lathe.evals.task import EnvironmentSpec, Network, Resources, Task, VerifierSpec
from lathe.sandbox.bubblewrap import find_program

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="rooms are made by root"),
    pytest.mark.skipif(find_program() is None, reason="bubblewrap is not installed"),
]
NONE = Network("none")


def task(name: str = "one", **spec: object) -> Task:
    environment = EnvironmentSpec(**{"network": NONE, **spec})  # type: ignore[arg-type]
    return Task(name, "tests", f"digest of {name} {spec}", "Do it.", environment, VerifierSpec())


Start = Callable[..., Awaitable[RootfsEnvironment]]


@pytest.fixture
async def maker(tmp_path: Path) -> AsyncIterator[RootfsMaker]:
    maker = RootfsMaker(tmp_path / "home")
    yield maker
    await maker.close()
    assert list((tmp_path / "home" / "rooms").iterdir()) == []


@pytest.fixture
async def start(maker: RootfsMaker, tmp_path: Path) -> AsyncIterator[Start]:
    """Start environments, and stop them in the end."""
    made: list[RootfsEnvironment] = []

    async def start(one: Task | None = None, **given: object) -> RootfsEnvironment:
        one = one or task()
        await maker.prepare(one, tmp_path / "log")
        place = maker.make(one, f"{one.name}.{len(made)}")
        made.append(place)
        await place.start(**given)  # type: ignore[arg-type]
        return place

    yield start
    for place in made:
        await place.stop()


async def said(place: RootfsEnvironment, script: str, **more: object) -> str:
    """Return what a script printed; it has to succeed."""
    ran = await place.run(["bash", "-c", script], **more)  # type: ignore[arg-type]
    assert ran.code == 0, ran
    return ran.output.decode()


def processes_of(mark: str) -> list[int]:
    """Return the processes of this machine that have a word in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


async def test_root_inside_is_root_of_nothing_else(start: Start) -> None:
    place = await start()
    assert (
        await said(place, "id -u; id -gn; stat -c %U:%G /etc/passwd /usr/bin; pwd")
        == "0\nroot\nroot:root\nroot:root\n/app\n"
    )
    assert (
        await said(place, "touch f && chown 33:33 f && stat -c %u:%g f; echo x >/usr/local/x; cat /usr/local/x")
        == "33:33\nx\n"
    )
    assert await said(place, "useradd -m jo && su jo -c 'id -un; cd; touch y; stat -c %U y'") == "jo\njo\n"
    assert not Path("/usr/local/x").exists()
    for refused in (
        "mount -t tmpfs none /mnt",
        "echo 1 >/proc/sys/kernel/panic",
        "mknod /tmp/d b 254 0",
        "echo b >/proc/sysrq-trigger",
    ):
        assert (await place.run(["bash", "-c", refused])).code != 0, refused
    assert await said(place, "ls /root; ls -d /tests /logs/verifier /home/*") == "/home/jo\n/logs/verifier\n/tests\n"


async def test_trials_share_nothing(start: Start) -> None:
    one, other = await start(), await start()
    await said(one, "echo mine >/app/file; echo mine >/dev/shm/file; (exec -a marked-sleep sleep 300) & sleep 0.1")
    assert await said(other, "ls /app /dev/shm; pgrep -f marked-slee[p] || true") == "/app:\n\n/dev/shm:\n"
    assert await said(one, "cat /app/file; pgrep -cf marked-slee[p]") == "mine\n1\n"
    await one.stop()
    assert processes_of("marked-sleep") == []


async def test_commands_one_after_another(start: Start) -> None:
    place = await start(task(env={"COLOUR": "red"}))
    assert await said(place, "echo $COLOUR $OWN; pwd", env={"OWN": "1"}, cwd="/tmp") == "red 1\n/tmp\n"
    ran = await place.run(["cat"], stdin=b"to be read\n")
    assert (ran.code, ran.output) == (0, b"to be read\n")
    assert (await place.run(["sh", "-c", "exit 3"])).code == 3
    assert (await place.run(["sh", "-c", "kill -SEGV $$"])).code == 128 + signal.SIGSEGV
    assert (await place.run(["no-such-program"])).code == 127
    assert await said(place, "id -un; echo $HOME", user="nobody") == "nobody\n/nonexistent\n"
    blocks: list[bytes] = []
    ran = await place.run(["seq", "10000"], on_output=blocks.append)
    assert ran.output.split() == [b"%d" % number for number in range(1, 10001)]
    assert b"".join(blocks) == ran.output
    ran = await place.run(["bash", "-c", "head -c 9000000 /dev/zero | tr '\\0' x; echo end"])
    assert len(ran.output) < 3_000_000
    assert b"bytes left out" in ran.output
    assert ran.output.endswith(b"xend\n")


async def test_a_server_that_was_left_running_is_there_for_the_next_command(start: Start) -> None:
    place = await start()
    await said(place, "cd /app && echo hello >page && (nohup python3 -m http.server 8000 >/dev/null 2>&1 &)")
    get = "import urllib.request as u; print(u.urlopen('http://localhost:8000/page').read())"
    fetch = f'for i in $(seq 50); do python3 -c "{get}" 2>/dev/null && exit; sleep 0.1; done; exit 1'
    assert await said(place, fetch) == "b'hello\\n'\n"


@pytest.mark.parametrize(
    ("resources", "script", "timeout_s", "killed"),
    [
        (Resources(), "setsid sleep 299 & trap '' TERM; while true; do sleep 0.05; done", 0.5, "time"),
        (Resources(memory_mb=64), "python3 -c 'x = bytearray(200 << 20)'", 60, "memory"),
        (Resources(processes=40), "for i in $(seq 100); do sleep 5 & done; exit 1", 60, "processes"),
        (Resources(disk_mb=20), "while true; do head -c 1000000 /dev/zero >>/app/big; sleep 0.001; done", 60, "disk"),
    ],
    ids=["time", "memory", "processes", "disk"],
)
async def test_limits_hold_and_are_named(
    start: Start, resources: Resources, script: str, timeout_s: float, killed: str
) -> None:
    place = await start(task(resources=resources))
    ran = await place.run(["bash", "-c", script], timeout_s=timeout_s)
    assert ran.killed == killed
    assert ran.code != 0
    ran = await place.run(["bash", "-c", "pgrep -f 'sleep 29[9]'; echo still here; echo x >/app/verdict"])
    assert (ran.code, ran.output, ran.killed) == (0, b"still here\n", "")


async def test_an_agent_that_kills_everything_leaves_a_place_to_be_judged(start: Start) -> None:
    place = await start()
    await said(place, "echo kept >/app/file")
    assert (await place.run(["bash", "-c", "kill -9 -1; sleep 1"])).code == 128 + signal.SIGKILL
    assert await said(place, "cat /app/file") == "kept\n"


async def test_changes_are_what_differs(start: Start, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a").write_text("a")
    (tmp_path / "given" / "b").write_text("b")
    (tmp_path / "given" / "sub").mkdir()
    (tmp_path / "given" / "sub" / "c").write_text("c")
    place = await start(
        task(files=((tmp_path / "given", "/app"),)), mounts=[Mount(tmp_path / "given", "/deep/mounted/given")]
    )
    assert await place.changes() == []
    await said(place, "touch a; echo more >>b; rm -r sub; mkdir -p new/empty; ln -s a link; chmod 600 /etc/profile")
    assert (await place.run(["touch", "/deep/mounted/given/x"])).code == 1
    assert await place.changes() == [
        Change("/app/b", "changed"),
        Change("/app/link", "added"),
        Change("/app/new/empty", "added"),
        Change("/app/sub", "removed"),
        Change("/etc/profile", "changed"),
    ]


async def test_files_go_in_and_come_out_as_they_are(start: Start, tmp_path: Path) -> None:
    place = await start()
    here = tmp_path / "here"
    (here / "in ner").mkdir(parents=True)
    odd = os.fsencode(here) + b"/line\nbreak \xff"
    Path(os.fsdecode(odd)).write_text("odd")
    (here / "in ner" / "run.sh").write_text("echo ran")
    (here / "in ner" / "run.sh").chmod(0o755)
    (here / "in ner" / "twin").hardlink_to(here / "in ner" / "run.sh")
    (here / "link").symlink_to("in ner/run.sh")
    await place.put(here, "/tests")
    await place.put(here / "in ner" / "run.sh", "/opt/new/run.sh", owner="nobody")
    assert await said(place, "/tests/link; stat -c %U:%a '/tests/in ner/twin' /opt/new/run.sh; ls /tests | wc -l") == (
        "ran\nroot:755\nnobody:755\n4\n"
    )
    await said(place, "cd /logs && echo 1 >verifier/reward.txt; ln -s /etc/shadow agent/leak; mkfifo agent/pipe")
    back = tmp_path / "back"
    assert await place.get("/tests", back / "tests")
    assert Path(os.fsdecode(os.fsencode(back) + b"/tests/line\nbreak \xff")).read_text() == "odd"
    assert (back / "tests" / "in ner" / "twin").read_text() == "echo ran"
    assert await place.get("/logs", back / "logs")
    assert sorted(path.name for path in (back / "logs").rglob("*")) == ["agent", "artifacts", "reward.txt", "verifier"]
    assert await place.get("/logs/verifier/reward.txt", back / "reward.txt")
    assert (back / "reward.txt").read_text() == "1\n"
    assert not await place.get("/logs/verifier/none", back / "none")
    assert not await place.get("/logs/agent/leak", back / "leak")
    with pytest.raises(EnvironmentFault, match="There is no"):
        await place.put(tmp_path / "absent", "/x")


@pytest.fixture
async def local() -> AsyncIterator[int]:
    """A server of this machine's that greets."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello from outside")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


ASK = "timeout 5 bash -c 'cat </dev/tcp/{}/{}' 2>&1 || true"


async def test_a_door_leads_out_and_nothing_else_does(start: Start, local: int) -> None:
    place = await start(doors=[Door(7000, "127.0.0.1", local)])
    assert await said(place, ASK.format("127.0.0.1", 7000)) == "hello from outside"
    assert "hello" not in await said(place, ASK.format("127.0.0.1", local))
    assert "hello" not in await said(place, ASK.format("host.lathe.internal", local))
    assert "hello" not in await said(place, ASK.format("10.255.0.1", local))


async def test_what_may_be_reached_changes_by_phase(start: Start, local: int) -> None:
    listed = Network("allowlist", ("host.lathe.internal",))
    place = await start(task(network=listed))
    ask = ASK.format("host.lathe.internal", local)
    assert await said(place, ask) == "hello from outside"
    assert "hello" not in await said(place, ASK.format("localhost", local))
    assert "hello" not in await said(place, ask, network=NONE)
    assert "hello" not in await said(place, ask)
    assert await said(place, ask, network=listed) == "hello from outside"
    assert "hello" not in await said(place, ask, network=Network("public")), "the public network is not this machine"


async def test_stop_leaves_nothing(start: Start, tmp_path: Path) -> None:
    def left() -> list[str]:
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/layer" in line]
        groups = [str(path) for path in Path("/sys/fs/cgroup").rglob(f"lathe-*-{os.getpid()}-*")]
        return mounts + groups + list(map(str, (tmp_path / "home" / "rooms").glob("*/*.one.*")))

    place = await start(doors=[Door(7000, "127.0.0.1", 9)])
    await said(place, "(setsid bash -c 'trap \"\" TERM; (exec -a left-behind sleep 300); true' &) ; sleep 0.1")
    assert processes_of("left-behind")
    assert left()
    await place.stop()
    await place.stop()
    assert processes_of("left-behind") == []
    assert left() == []
    with pytest.raises(EnvironmentFault, match="does not run"):
        await place.run(["true"])


KILLED = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_rootfs import RootfsMaker, task

async def main():
    maker = RootfsMaker(Path({home!r}))
    await maker.prepare(task(), Path("log"))
    place = maker.make(task(), "one.1")
    await place.start()
    await place.run(["bash", "-c", "(setsid bash -c 'exec -a orphan-of-a-run sleep 300' &); sleep 0.1"])
    print("ready", flush=True)
    await place.run(["sleep", "300"])

asyncio.run(main())
"""


async def test_a_run_that_is_killed_leaves_only_folders_and_the_next_removes_them(tmp_path: Path) -> None:
    code = KILLED.format(folder=str(Path(__file__).parent), home=str(tmp_path / "home"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert await asyncio.to_thread(run.stdout.readline) == b"ready\n"
        assert processes_of("orphan-of-a-run")
        run.kill()
    limit = time.monotonic() + 10
    while processes_of("orphan-of-a-run") and time.monotonic() < limit:
        await asyncio.sleep(0.01)
    assert processes_of("orphan-of-a-run") == []
    rooms = tmp_path / "home" / "rooms"
    assert len(list(rooms.iterdir())) == 1
    maker = RootfsMaker(tmp_path / "home")
    await maker.prepare(task(), tmp_path / "log")
    await maker.close()
    assert list(rooms.iterdir()) == []


async def test_what_cannot_be_had_is_said_in_one_sentence(maker: RootfsMaker, tmp_path: Path) -> None:
    for one, why in (
        (task("gpu", resources=Resources(gpus=1)), "gpu needs a GPU, and the environment rootfs has none."),
        (task("many", context=tmp_path, compose=True), "many is of several containers, and rootfs is only one."),
        (task("absent", files=((tmp_path / "no", "/app"),)), "could not be put to /app"),
    ):
        with pytest.raises(EnvironmentFault, match=why) as fault:
            await maker.prepare(one, tmp_path / "log")
        assert fault.value.stage == "build"


async def test_a_keeper_that_is_gone_is_started_again(start: Start) -> None:
    place = await start()
    await said(place, "true")
    [keeper] = [
        pid for pid in children_of(os.getpid()) if b"keeper.main()" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(keeper, signal.SIGKILL)
    with pytest.raises(EnvironmentFault, match="has ended"):
        while True:
            await place.run(["true"])
    assert await said(await start(), "echo there") == "there\n"


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started and that live."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task_ in tasks for child in (task_ / "children").read_text().split()]
