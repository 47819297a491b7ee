"""What a confined command can and cannot do; every tier that confines is tried with the same list of escapes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from conftest import Box, MakeBox

from lathe.protocol.errors import ConfigError
from lathe.protocol.ids import new_id
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner

GIT = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run([*GIT, "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(workspace: Path) -> Path:
    git(workspace, "init", "-q")
    git(workspace, "config", "user.name", "A")
    git(workspace, "config", "user.email", "a@example.org")
    (workspace / "file").write_text("one\n")
    git(workspace, "add", "file")
    git(workspace, "commit", "-qm", "first")
    return workspace


async def test_writes_inside_succeed_and_belong_to_the_owner_of_the_workspace(confined: Box) -> None:
    status, output = await confined.run("mkdir -p a/b && echo x > a/b/c && mv a/b/c a/d && ln -s d a/link && rm a/link")
    assert (status, output) == (0, "")
    made = (confined.workspace / "a" / "d").stat()
    assert (made.st_uid, made.st_gid) == (confined.workspace.stat().st_uid, confined.workspace.stat().st_gid)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a workspace away")
@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
async def test_root_leaves_no_file_of_its_own_in_the_workspace_of_another(
    name: str, make: MakeBox, outside: Path
) -> None:
    os.chmod(outside, 0o755)
    theirs = outside / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12346)
    closed = outside / "closed"
    closed.mkdir(mode=0o700)
    (closed / "key").write_text("x")
    box = await make(name, cwd=theirs, hidden=[str(closed / "key")])
    assert await box.run("mkdir a && echo x > a/b && id -u && id -g") == (0, "12345\n12346\n")
    assert {(path.stat().st_uid, path.stat().st_gid) for path in theirs.rglob("*")} == {(12345, 12346)}
    assert (await box.run(f"echo x > {outside}/file"))[0] != 0
    assert (await box.run("grep CapBnd /proc/self/status"))[1].split()[1].strip("0") == ""


async def test_writes_outside_fail(confined: Box, outside: Path) -> None:
    precious = outside / "precious"
    precious.write_text("precious")
    tries = ["echo x > precious", "echo x >> precious", "rm precious", "mv precious other", "ln precious hard"]
    tries += ["truncate -s 0 precious", "mkdir folder", "ln -s x link", "mknod pipe p", f"mv {outside} {outside}2"]
    tries += [f"ln precious {confined.workspace}/hard && echo x > {confined.workspace}/hard"]
    for attempt in tries:
        status, _output = await confined.run(f"cd {outside} && {attempt}")
        assert status != 0, attempt
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert precious.read_text() == "precious"


async def test_a_link_out_of_the_workspace_leads_nowhere(confined: Box, outside: Path) -> None:
    status, _output = await confined.run(f"ln -s {outside} way && echo x > way/file")
    assert status != 0
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
async def test_read_only_writes_nowhere_but_in_tmp(name: str, make: MakeBox, workspace: Path) -> None:
    box = await make(name, mode="read-only")
    (workspace / "file").write_text("readable")
    _status, output = await box.run(
        "cat file; echo x > file; echo y > other; t=$(mktemp) && echo z > $t && cat $t; rm $t"
    )
    assert output.startswith("readable")
    assert output.endswith("z\n")
    if name == "bubblewrap":  # the landlock tier has the machine's /tmp, where this workspace lies
        assert (workspace / "file").read_text() == "readable"
        assert not (workspace / "other").exists()


async def test_tmp_is_private_and_gone_afterwards(make: MakeBox) -> None:
    box = await make("bubblewrap")
    mine = f"/tmp/{new_id()}"
    status, output = await box.run(f"ls /tmp /var/tmp; echo x > {mine}; echo y > /var{mine}; cat {mine}")
    assert status == 0
    assert output.endswith("x\n")
    assert not Path(mine).exists()


async def test_the_network_is_off(confined: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (await confined.run(f"exec 3<> /dev/tcp/127.0.0.1/{port}"))[0] != 0
        assert (await confined.run(f"echo x > /dev/udp/127.0.0.1/{port}; exec 3<> /dev/tcp/192.0.2.1/80"))[0] != 0


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
async def test_the_network_is_on_where_the_policy_says_so(name: str, make: MakeBox) -> None:
    box = await make(name, network=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert await box.run(f"exec 3<> /dev/tcp/127.0.0.1/{port} && echo through") == (0, "through\n")


async def test_local_sockets_between_commands_work(confined: Box) -> None:
    script = "import socket; a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1)); socket.socket(socket.AF_UNIX)"
    assert await confined.run(f'python3 -I -c "{script}"') == (0, "b'x'\n")


@pytest.mark.parametrize("name", ["bubblewrap", "landlock"])
async def test_hidden_files_are_unreadable(name: str, make: MakeBox, outside: Path, own_home: Path) -> None:
    (outside / "state" / "spill").mkdir(parents=True)
    (outside / "state" / "secret").write_text("secret")
    (outside / "state" / "spill" / "output").write_text("readable")
    (outside / "alone").write_text("secret")
    (own_home / ".ssh").mkdir()
    (own_home / ".ssh" / "id_ed25519").write_text("secret")
    (own_home / ".netrc").write_text("secret")
    (own_home / ".gitconfig").write_text("[user]\n")
    hidden = [str(outside / "state"), str(outside / "alone"), str(outside / "missing")]
    box = await make(name, hidden=hidden, readable=[str(outside / "state" / "spill")])
    _status, output = await box.run(
        f"cat {outside}/state/secret {outside}/alone ~/.ssh/id_ed25519 ~/.netrc; cat {outside}/state/spill/output"
    )
    assert "readable" in output
    assert "secret\n" not in output.replace("/secret", "")
    assert "secretsecret" not in output
    status, _output = await box.run(f"echo x > {outside}/state/new")
    assert status != 0
    assert not (outside / "missing").exists()
    assert sorted(path.name for path in outside.iterdir()) == ["alone", "state"]


async def test_what_landlock_cannot_hide_is_no_silent_hole(
    workspace: Path, environment: dict[str, str], own_home: Path
) -> None:
    (own_home / ".ssh").mkdir()
    policy = SandboxPolicy(writable_roots=(str(own_home),))
    runner = Runner(policy, cwd=workspace, env=environment, tiers=("landlock",))
    with pytest.raises(ConfigError, match="cannot hide"):
        await runner.start()
    await runner.aclose()


async def test_a_workspace_in_a_hidden_folder_is_seen(make: MakeBox, workspace: Path) -> None:
    (workspace.parent / "beside").write_text("secret")
    box = await make("bubblewrap", hidden=[str(workspace.parent)])
    status, output = await box.run("echo x > file; ls -A . ..")
    assert status == 0
    assert "beside" not in output
    assert (workspace / "file").read_text() == "x\n"


async def test_remounting_does_not_make_anything_writable(confined: Box, outside: Path) -> None:
    for attempt in (
        "mount -o remount,rw,bind /",
        "unshare -Urm mount -o remount,rw,bind /",
        "unshare -Urm mount --bind . /",
        f"unshare -Urm sh -c 'mount -t tmpfs x {outside}; umount -l /; mount -o remount,rw /'",
    ):
        await confined.run(f"{attempt}; echo x > {outside}/file")
        assert list(outside.iterdir()) == []


async def test_other_processes_are_out_of_reach(confined: Box, outside: Path) -> None:
    script = f"""
    exec 2> /dev/null
    for p in /proc/[0-9]* /proc/{os.getpid()}; do
        tr '\\0' '\\n' < $p/environ | grep -a ^PYTEST_CURRENT_TEST
        echo x > $p/root{outside}/file && echo wrote through $p
    done; true"""
    assert os.environ["PYTEST_CURRENT_TEST"]
    assert await confined.run(script) == (0, "")
    assert list(outside.iterdir()) == []
    status, _output = await confined.run(f"kill -0 {os.getpid()} && [ $(readlink /proc/{os.getpid()}/exe) ]")
    assert status != 0


async def test_no_capability_is_held(confined: Box) -> None:
    _status, output = await confined.run("grep -E 'Cap(Eff|Prm|Bnd|Amb)|NoNewPrivs' /proc/self/status")
    values = dict(line.split() for line in output.splitlines())
    assert values["CapEff:"].strip("0") == values["CapPrm:"].strip("0") == values["CapAmb:"].strip("0") == ""
    assert values["NoNewPrivs:"] == "1"
    if os.getuid() == 0:
        assert values["CapBnd:"].strip("0") == ""


async def test_git_works_in_the_workspace_but_plants_no_hook(make: MakeBox, repository: Path) -> None:
    box = await make("bubblewrap")
    status, output = await box.run("echo two >> file && git checkout -qb side && git commit -qam second && git gc -q")
    assert (status, output) == (0, "")
    assert git(repository, "log", "--format=%s").split() == ["second", "first"]
    config = (repository / ".git" / "config").read_text()
    for attempt in (
        "echo evil > .git/hooks/pre-commit",
        "mv .git .git2 && mkdir -p .git/hooks && echo evil > .git/hooks/pre-commit",
        "rm -rf .git/hooks; mkdir .git/hooks",
        "mv .git/hooks .git/hooks2; mkdir .git/hooks && echo evil > .git/hooks/pre-commit",
        "git config core.hooksPath evil",
        "mv .git/config .git/config2; echo '[core] hooksPath = evil' > .git/config",
        "ln -sfn ../evil .git/hooks",
        "chmod 777 .git/hooks && echo evil > .git/hooks/pre-commit",
    ):
        status, _output = await box.run(attempt)
        assert status != 0, attempt
    assert not (repository / ".git" / "hooks" / "pre-commit").exists()
    assert (repository / ".git" / "config").read_text() == config


async def test_a_repository_without_a_hooks_folder_takes_no_hook_either(make: MakeBox, repository: Path) -> None:
    shutil.rmtree(repository / ".git" / "hooks")
    box = await make("bubblewrap")
    status, _output = await box.run("mkdir -p .git/hooks && echo evil > .git/hooks/pre-commit")
    assert status != 0
    assert list((repository / ".git" / "hooks").iterdir()) == []


async def test_the_settings_of_a_project_are_read_only(make: MakeBox, workspace: Path) -> None:
    (workspace / ".lathe").mkdir()
    (workspace / ".lathe" / "config.toml").write_text("mine")
    box = await make("bubblewrap")
    for attempt in ("echo x > .lathe/config.toml", "mv .lathe other", "rm -r .lathe", "touch .lathe/new"):
        assert (await box.run(attempt))[0] != 0, attempt
    assert (workspace / ".lathe" / "config.toml").read_text() == "mine"


async def test_the_sandbox_puts_nothing_into_the_workspace(confined: Box) -> None:
    assert await confined.run("ls -A") == (0, "")
    assert list(confined.workspace.iterdir()) == []


async def test_a_linked_worktree_can_commit(make: MakeBox, outside: Path, workspace: Path) -> None:
    main = outside / "main"
    main.mkdir()
    git(main, "init", "-q")
    git(main, "config", "user.name", "A")
    git(main, "config", "user.email", "a@example.org")
    git(main, "commit", "-q", "--allow-empty", "-m", "first")
    git(main, "worktree", "add", "-q", str(workspace / "tree"), "-b", "side")
    for path in (workspace / "tree").iterdir():
        path.rename(workspace / path.name)
    git(main, "worktree", "repair", str(workspace))
    box = await make("bubblewrap")
    assert await box.run("echo x > file && git add file && git commit -qm second") == (0, "")
    assert git(main, "log", "--format=%s", "side").split() == ["second", "first"]
    assert (await box.run(f"echo evil > {main}/.git/hooks/pre-commit"))[0] != 0
    assert (await box.run(f"echo evil > {main}/file"))[0] != 0


async def test_a_false_worktree_opens_no_folder(make: MakeBox, outside: Path, workspace: Path) -> None:
    (outside / "worktrees" / "x").mkdir(parents=True)
    (workspace / ".git").write_text(f"gitdir: {outside}/worktrees/x\n")
    box = await make("bubblewrap")
    assert (await box.run(f"echo x > {outside}/file"))[0] != 0
    assert [path.name for path in outside.iterdir()] == ["worktrees"]


async def test_where_no_tier_works_the_person_is_told_and_nothing_runs(workspace: Path) -> None:
    runner = Runner(SandboxPolicy(), cwd=workspace, env={}, tiers=())
    with pytest.raises(ConfigError) as caught:
        await runner.spawn(["true"], cwd="/", on_output=len)
    assert "danger-full-access" in caught.value.hint
    await runner.aclose()


async def test_a_broken_bubblewrap_gives_way_to_landlock(
    workspace: Path, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("lathe.sandbox.bubblewrap.find_program", lambda: str(broken))
    runner = Runner(SandboxPolicy(), cwd=workspace, env=environment)
    try:
        await runner.start()
    except ConfigError as error:
        assert "uid map" in error.message
        pytest.skip(f"landlock: {error.message}")
    finally:
        await runner.aclose()
    assert runner.tier == "landlock"
