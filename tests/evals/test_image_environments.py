"""What every kind of environment does with a task's Dockerfile; the image is built here, of this machine's programs."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lathe.evals.environments.base import Change, Door, Environment, EnvironmentFault, EnvironmentMaker, Mount
from lathe.evals.environments.images import bases
from lathe.evals.environments.maker import open_maker, rootfs_trouble
from lathe.evals.environments.standins import recipe_of
from lathe.evals.environments.storage import Storage, missing_programs, remove_orphans
from lathe.evals.environments.verifying import aid_for
from lathe.evals.task import EnvironmentSpec, Network, Resources, Task, VerifierSpec

PROGRAMS = ("sh", "sleep", "mkdir", "chmod", "chown", "cat", "rm", "touch", "id", "ls", "bash", "ln", "stat")
DOCKERFILE = """\
FROM scratch AS files
COPY root /
FROM files
COPY more /app
RUN rm /app/gone && echo built >/app/built
ENV COLOUR=red
WORKDIR /app
"""


def why_not(kind: str) -> str:
    """Return why an environment cannot be tested here, "" where it can."""
    if os.geteuid() != 0:
        return "environments of images are made by root here"
    if missing := missing_programs():
        return f"{' and '.join(missing)} not installed"
    if kind == "rootfs":
        return rootfs_trouble()
    return "" if shutil.which(kind) else f"{kind} is not installed"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("images")
    yield folder
    # what the storage has mounted of its own
    subprocess.run(["umount", "-R", str(folder / "storage" / "overlay")], check=False, capture_output=True)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to build from: the programs of this machine that commands need, with their libraries."""
    folder = tmp_path_factory.mktemp("context")
    root = folder / "root"
    for name in PROGRAMS:
        program = shutil.which(name)
        assert program is not None
        listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        for path in [program, *(word for word in listed.split() if word.startswith("/"))]:
            target = root / (f"bin/{name}" if path == program else path.lstrip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\njo:x:1234:1234::/tmp:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\njo:x:1234:\n")
    (root / "tmp").mkdir(mode=0o777)
    (folder / "more").mkdir()
    for name in ("gone", "kept", "changed"):
        (folder / "more" / name).write_text(name)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    return folder


@pytest.fixture(params=["rootfs", "podman"])
async def maker(request: pytest.FixtureRequest, home: Path) -> AsyncIterator[EnvironmentMaker]:
    if why := why_not(request.param):
        pytest.skip(why)
    maker = open_maker(request.param, home)
    yield maker
    await maker.close()


def task(context: Path, **more: object) -> Task:
    spec = EnvironmentSpec(context=context, **{"network": Network("none"), "resources": Resources(), **more})  # type: ignore[arg-type]
    return Task("built", "tests", f"digest of {more}", "Do it.", spec, VerifierSpec())


async def said(place: Environment, script: str, **more: object) -> str:
    ran = await place.run(["sh", "-c", script], **more)  # type: ignore[arg-type]
    assert ran.code == 0, ran
    return ran.output.decode()


async def test_an_image_is_built_once_and_trials_of_it_run(
    maker: EnvironmentMaker, context: Path, tmp_path: Path
) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    one = task(context)
    assert await maker.prepare(one, tmp_path / "log") > 0
    assert await maker.prepare(one, tmp_path / "log") == 0.0
    place = maker.make(one, "built.1")
    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        await place.start(mounts=[Mount(context / "more", "/given")], doors=[Door(7000, "127.0.0.1", port)])
        assert await said(place, "id -u; echo $COLOUR; ls; cat built /given/gone") == (
            "0\nred\nbuilt\nchanged\nkept\nbuilt\ngone"
        )
        assert await said(place, "id -u; echo $OWN", env={"OWN": "x"}, user="jo", cwd="/tmp") == "1234\nx\n"
        assert (await place.run(["cat"], stdin=b"read")).output == b"read"
        assert (await place.run(["sh", "-c", "exit 3"])).code == 3
        ask = "exec 2>/dev/null; cat </dev/tcp/127.0.0.1/{} || echo closed"
        assert (await place.run(["bash", "-c", ask.format(7000)])).output == b"hello"
        assert (await place.run(["bash", "-c", ask.format(port)])).output == b"closed\n"
        ran = await place.run(["sh", "-c", "sleep 297 & sleep 298"], timeout_s=1.0)
        assert (ran.killed, ran.code > 128) == ("time", True)
        await said(
            place,
            "rm kept; echo more >>changed; echo new >new; mkdir -p /logs/verifier; echo 1 >/logs/verifier/reward.txt",
        )
        await place.put(context / "more", "/tests", owner="jo")
        assert await said(place, "stat -c %U /tests/gone; cat /tests/gone") == "jo\ngone"
        assert await place.get("/logs/verifier", tmp_path / "back")
        assert (tmp_path / "back" / "reward.txt").read_text() == "1\n"
        assert not await place.get("/logs/none", tmp_path / "none")
        found = await place.changes()
        assert [change for change in found if change.path.startswith("/app/")] == [
            Change("/app/changed", "changed"),
            Change("/app/kept", "removed"),
            Change("/app/new", "added"),
        ]
        await said(place, "sleep 296 >/dev/null 2>&1 &")
        await place.hand_over(end=False)
        seen = "cat /proc/[0-9]*/cmdline >/app/seen; ls -A /tests /logs/verifier; touch /logs/verifier/y"
        assert await said(place, seen) == "/logs/verifier:\n\n/tests:\n"
        assert "sleep\x00296" in await said(place, "cat /app/seen")
    finally:
        await place.stop()
        await place.stop()
        server.close()


async def test_what_was_left_is_ended_before_the_verifier_comes(
    maker: EnvironmentMaker, context: Path, tmp_path: Path
) -> None:
    one = task(context)
    await maker.prepare(one, tmp_path / "log")
    place = maker.make(one, "built.2")
    try:
        await place.start()
        await said(place, "sleep 295 >/dev/null 2>&1 & echo x >/tests/x; echo 1 >/logs/verifier/reward.txt")
        await place.hand_over(end=True)
        assert (await place.run(["sh", "-c", "cat /proc/[0-9]*/cmdline"])).output.count(b"sleep\x00295") == 0
        assert await said(place, "ls -A /tests /logs/verifier; cat /app/built") == "/logs/verifier:\n\n/tests:\nbuilt\n"
    finally:
        await place.stop()


async def test_a_build_that_fails_says_why(maker: EnvironmentMaker, context: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(context, broken)
    (broken / "Dockerfile").write_text(DOCKERFILE.replace("rm /app/gone", "echo no such luck >&2; exit 7"))
    with pytest.raises(EnvironmentFault, match="The image of built could not be built") as fault:
        await maker.prepare(task(broken), tmp_path / "log")
    assert fault.value.stage == "build"
    assert "no such luck" in (tmp_path / "log").read_text()
    (broken / "Dockerfile").unlink()
    with pytest.raises(EnvironmentFault, match="has no Dockerfile"):
        await maker.prepare(task(broken), tmp_path / "log")


@pytest.mark.parametrize(
    ("image", "suite", "python"),
    [
        ("ubuntu:24.04", "noble", ""),
        ("docker.io/library/debian:bullseye-slim", "bullseye", ""),
        ("debian:13.0-slim", "trixie", ""),
        ("python:3.13-slim-bookworm", "bookworm", "3.13"),
        ("python:3.11.4", "bookworm", "3.11"),
    ],
)
def test_what_stands_in_for_an_image(image: str, suite: str, python: str) -> None:
    recipe = recipe_of(image)
    assert recipe is not None
    assert (recipe.suite, recipe.python) == (suite, python)


def test_nothing_stands_in_for_what_is_not_known() -> None:
    assert recipe_of("ghcr.io/someone/thing:1") is None
    assert recipe_of("alpine:3.20") is None


def test_the_images_that_a_dockerfile_needs() -> None:
    text = (
        "FROM --platform=linux/amd64 a:1 AS one\nFROM one\nCOPY --from=b:2 /x /x\nCOPY --from=one /y /y\nfrom scratch\n"
    )
    assert bases(text) == ["a:1", "b:2"]


async def test_tests_that_fetch_nothing_need_no_aid(tmp_path: Path) -> None:
    (tmp_path / "test.sh").write_text("echo 1 >/logs/verifier/reward.txt")
    assert (await aid_for(tmp_path, tmp_path / "home", tmp_path / "log")).folder is None


def test_a_kind_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="There is no environment cloud"):
        open_maker("cloud", tmp_path)


@pytest.mark.skipif(bool(missing_programs()), reason="no programs for images")
def test_a_run_folder_goes_with_its_storage(tmp_path: Path) -> None:
    homes = [tmp_path / f"a home with a name that is too long for podman {each}" for each in ("to-stay", "to-go")]
    folders = []
    for home in homes:
        storage = Storage(home)
        storage.prepare()
        folders.append(Path(storage.command()[4]))
    shutil.rmtree(homes[1])
    assert all(folder.is_dir() for folder in folders)
    remove_orphans(folders[0].parent)
    assert [folder.exists() for folder in folders] == [True, False]
    shutil.rmtree(folders[0])
