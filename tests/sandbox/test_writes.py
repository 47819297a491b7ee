"""Who changed a file: what commands of a sandbox wrote is on record, what others write beside them is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeBox

from lathe.sandbox.writes import Writes


@pytest.fixture
def writes() -> Iterator[Writes]:
    one = Writes()
    yield one
    one.close()


@pytest.fixture(params=["bubblewrap", "bubblewrap with the machine's proc", "landlock"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


FORMS = {
    "redirect": ("echo x > new", ["new"]),
    "append": ("echo x >> file", ["file"]),
    "in place": ("sed -i s/a/b/ file", ["file"]),
    "truncate": ("truncate -s 0 file", ["file"]),
    "mode": ("chmod 600 file", ["file"]),
    "times": ("touch -d 2001-01-01 file", ["file"]),
    "remove": ("rm file", ["file"]),
    "remove a tree": ("rm -r tree", ["tree", "tree/deep", "tree/deep/leaf"]),
    "make folders": ("mkdir -p a/b/c", ["a", "a/b", "a/b/c"]),
    "move": ("mv file moved", ["file", "moved"]),
    "move a tree": ("mv tree moved", ["tree/deep/leaf", "moved/deep/leaf", "tree", "moved"]),
    "link": ("ln file hard", ["file", "hard"]),
    "symbolic link": ("ln -s file soft", ["soft"]),
    "through a link": ("echo x > link", ["file"]),
    "through a linked folder": ("echo x > linked/leaf", ["tree/deep/leaf"]),
    "below another folder": ("cd tree/deep; echo x > leaf; rm ../../file", ["tree/deep/leaf", "file"]),
    "pipe": ("mkfifo pipe", ["pipe"]),
    "python": ("python3 -c \"open('file', 'r+').write('x')\"", ["file"]),
    "descriptor of a folder": (
        "python3 -c \"import os; d = os.open('tree', 0); os.open('new', os.O_CREAT | os.O_WRONLY, dir_fd=d)\"",
        ["tree/new"],
    ),
    "mode by descriptor": ("python3 -c \"import os; os.fchmod(os.open('file', 0), 0o600)\"", ["file"]),
    "git": ("git init -q . && git add file", [".git/index", ".git/HEAD"]),
    "attribute": ("python3 -c \"import os; os.setxattr('file', 'user.x', b'x')\"", ["file"]),
    "in the background": ("(sleep 0.1; echo x > late) & wait", ["late"]),
}


@pytest.mark.parametrize("form", FORMS)
async def test_each_form_of_writing_is_on_record(
    make: MakeBox, workspace: Path, writes: Writes, kind: str, form: str
) -> None:
    script, expected = FORMS[form]
    (workspace / "tree" / "deep").mkdir(parents=True)
    for path in ("file", "other", "tree/deep/leaf"):
        (workspace / path).write_text("a\n")
    (workspace / "link").symlink_to("file")
    (workspace / "linked").symlink_to("tree/deep")
    box = await make(kind, writes=writes)
    status, said = await box.run(script)
    assert status == 0, said
    assert writes.certain
    real = Path(os.path.realpath(workspace))
    assert [path for path in expected if not writes.wrote(os.fsencode(real / path))] == []
    assert not writes.wrote(os.fsencode(real / "other"))


async def test_reading_is_not_on_record_nor_what_others_write(make: MakeBox, workspace: Path, writes: Writes) -> None:
    (workspace / "file").write_text("a\n")
    box = await make("bubblewrap", writes=writes)
    process = await box.spawn("cat file; ls; grep -r a . ; until [ -e go ]; do sleep 0.02; done")
    (workspace / "persons").write_text("mine\n")
    (workspace / "file").write_text("mine\n")
    (workspace / "go").touch()
    assert await process.wait() == 0
    assert writes.certain
    assert not any(writes.wrote(os.fsencode(workspace / name)) for name in ("file", "persons", "go"))
    await box.run("echo x > file")
    assert writes.wrote(os.fsencode(workspace / "file"))
    writes.reset()
    assert not writes.wrote(os.fsencode(workspace / "file"))


async def test_where_paths_mean_something_else_nothing_is_certain(
    make: MakeBox, workspace: Path, writes: Writes
) -> None:
    box = await make("bubblewrap", writes=writes)
    if shutil.which("bwrap") is None:
        pytest.skip("needs bwrap within bwrap")
    inner = f"bwrap --unshare-user --ro-bind / / --dev /dev --bind {workspace} /mnt sh -c 'echo x > /mnt/new'"
    status, said = await box.run(inner)
    assert status == 0, said
    assert (workspace / "new").exists()
    assert not writes.certain


async def test_nonsense_in_registers_and_a_killed_program_stop_nobody(
    make: MakeBox, workspace: Path, writes: Writes
) -> None:
    box = await make("bubblewrap", writes=writes)
    nonsense = """
import ctypes
libc = ctypes.CDLL(None)
for address in (-1, 0, 1, 1 << 62):
    libc.syscall(ctypes.c_long(257), ctypes.c_long(-100), ctypes.c_long(address), ctypes.c_long(1), ctypes.c_long(0))
    libc.syscall(ctypes.c_long(257), ctypes.c_long(1 << 40), ctypes.c_char_p(b"x"), ctypes.c_long(1), ctypes.c_long(0))
"""
    (workspace / "nonsense.py").write_text(nonsense)
    assert (await box.run("python3 nonsense.py"))[0] == 0
    assert not writes.certain
    writes.reset()
    many = "(while :; do echo x > a; done) & (while :; do echo x > b; done) & sleep 0.3; kill -9 %1 %2; wait; true"
    assert (await box.run(many))[0] == 0
    assert writes.certain
    assert (await box.run("echo x > c"))[0] == 0
    assert writes.wrote(os.fsencode(os.path.realpath(workspace / "c")))


async def test_many_threads_and_processes_are_all_heard(make: MakeBox, workspace: Path, writes: Writes) -> None:
    script = """
import os, threading
def work(name):
    for number in range(100):
        with open(f"{name}-{number}", "w") as file: file.write("x")
for child in range(4):
    if not os.fork():
        threads = [threading.Thread(target=work, args=(f"{child}-{n}",)) for n in range(4)]
        [t.start() for t in threads]; [t.join() for t in threads]
        os._exit(0)
for child in range(4): os.wait()
"""
    (workspace / "many.py").write_text(script)
    box = await make("bubblewrap", writes=writes)
    assert (await box.run("python3 many.py"))[0] == 0
    made = [entry.path for entry in os.scandir(os.path.realpath(workspace)) if "-" in entry.name]
    assert len(made) == 1600
    assert all(writes.wrote(os.fsencode(path)) for path in made)


async def test_a_sandbox_that_is_closed_leaves_no_thread_and_no_file(make: MakeBox, writes: Writes) -> None:
    import threading

    def left() -> tuple[int, int]:
        threads = [thread for thread in threading.enumerate() if thread.name == "lathe-writes"]
        return len(threads), len(os.listdir("/proc/self/fd"))

    await (await make("bubblewrap")).runner.aclose()  # what the loop keeps open is open then
    before = left()
    box = await make("bubblewrap", writes=writes)
    await box.run("echo x > file")
    await box.runner.aclose()
    writes.close()
    assert left() == before
