"""Attempts to get out of the sandbox, on every tier, as root and as an ordinary user.

Each attempt of `escapes.py` is first made without a sandbox, where it must succeed, or it would prove nothing; then in
each tier, where it must not. As root the suite runs in a mount namespace of its own, for some attempts change mounts.

usage: sandbox_escape.py [--check] [--json] [--only FAMILY] [--tier TIER ...] [--as-user]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from escapes import ATTEMPTS, Attempt
from measuring import table

from lathe.protocol.errors import ConfigError
from lathe.sandbox.destinations import Destinations
from lathe.sandbox.egress import Egress
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner

STARTED_BY = {
    "bubblewrap": "bubblewrap",
    "bubblewrap with the machine's proc": "machine-proc",
    "bubblewrap with the machine's network": "shared-network",
    "landlock": "landlock",
}
TIERS = ["none", *STARTED_BY]
USER = 12345
LIMIT_S = 10.0
SHM_KEY = 0x1A7E5C << 8
_TOKEN = "LATHE_ESCAPE_TOKEN"
_VICTIM = """
import os, signal, sys, time
def touched(number, frame): open(sys.argv[1], "a").write("signal\\n")
signal.signal(signal.SIGUSR1, touched)
held = os.open(sys.argv[2], os.O_RDONLY)
print("ready", flush=True)
for line in sys.stdin: print("still here", flush=True)
"""


class World:
    """What lies around the sandbox: files, a process, sockets, keys; and whether any of it was touched."""

    def __init__(self, base: Path, token: str) -> None:
        self.base, self.token = base, token
        self.out, self.ws, self.touched = base / "out", base / "ws", base / "touched"
        self.home, self.state = self.out / "home", self.out / "state"
        self.sockets = base / "sockets"
        self.sockets.mkdir(exist_ok=True)
        self.closing = contextlib.ExitStack()
        self.victim: subprocess.Popen[str] | None = None
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "OUT": str(self.out),
            "ROOTS": str(base / "roots"),
            "SUID": str(base / "suid"),
            "LATHE_STATE": str(self.state),
            "LATHE": str(os.getpid()),
            "SHM": str(SHM_KEY + os.getpid()),
            "KEY": f"lathe-escape-{os.getpid()}",
            "TEMPORARY": f"/tmp/lathe-escape-{os.getpid()}",
            "SHARED": f"/dev/shm/lathe-escape-{os.getpid()}",
        }
        os.environ["HOME"] = str(self.home)
        self._serve()
        self._leave_secrets()

    def reset(self) -> None:
        """Make everything as it is before an attempt."""
        for folder in (self.out, self.ws):
            subprocess.run(["umount", "-q", str(self.ws / "m")], check=False, capture_output=True)
            folder.mkdir(parents=True, exist_ok=True)
            for entry in list(folder.iterdir()):  # the folder itself is where the victim stands
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
        for path in (self.touched, self.base / "roots" / "mark"):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        for path, text in {
            "secret": self.token,
            "target": "target\n",
            "home/.bashrc": "# mine\n",
            "home/.ssh/id_ed25519": self.token,
            "home/.aws/credentials": self.token,
            "home/.netrc": self.token,
            "home/.bash_history": self.token,
            "home/.config/x": "",
            "home/bin/x": "",
            "state/threads/x.jsonl": self.token,
        }.items():
            (self.out / path).parent.mkdir(parents=True, exist_ok=True)
            (self.out / path).write_text(text + "\n")
        self._git("init", "-q")
        (self.ws / "file").write_text("x\n")
        self._git("add", "-A")
        self._git("commit", "-qm", "first")
        if self.victim is None or self.victim.poll() is not None:
            self._start_victim()

    def _start_victim(self) -> None:
        environ = {**os.environ, "SECRET": self.token}
        argv = [sys.executable, "-c", _VICTIM, str(self.touched), str(self.out / "secret")]
        self.victim = subprocess.Popen(
            argv,
            env=environ,
            cwd=self.out,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.victim.stdout is not None
        self.victim.stdout.readline()
        self.environ["VICTIM"] = str(self.victim.pid)

    def _git(self, *arguments: str) -> None:
        who = {f"GIT_{role}_{what}": "x@y" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        environ = {**self.environ, **who, "EDITOR": "true"}
        command = ["git", "-c", "safe.directory=*", *arguments]
        subprocess.run(command, cwd=self.ws, env=environ, check=False, capture_output=True, timeout=20)

    def use_git(self) -> None:
        """Do with git what a person would do next."""
        for arguments in (
            ["status"],
            ["add", "-A"],
            ["commit", "--allow-empty"],
            ["commit", "--allow-empty", "-m", "x"],
        ):
            self._git(*arguments)

    def look(self) -> dict[str, Any]:
        """Return all that must not change."""
        found: dict[str, Any] = {}
        self._hear_the_victim()
        for top in (self.out, self.base / "roots"):
            for folder, folders, files in os.walk(top):
                for name in (*folders, *files):
                    path = Path(folder, name)
                    status = path.lstat()
                    held = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
                    modified = None if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
                    with contextlib.suppress(OSError):
                        found[f"{path} attributes"] = os.listxattr(path)
                    found[str(path)] = (status.st_mode, status.st_uid, modified, held)
        found["touched"] = self.touched.exists()
        assert self.victim is not None
        found["victim"] = self.victim.poll()
        with contextlib.suppress(OSError):
            found["priority"] = os.getpriority(os.PRIO_PROCESS, self.victim.pid)
        return found

    def _hear_the_victim(self) -> None:
        """Wait until the victim answers: what it was sent before, signals too, it has then noticed."""
        assert self.victim is not None
        assert self.victim.stdin is not None
        assert self.victim.stdout is not None
        with contextlib.suppress(OSError):  # it may be dead
            self.victim.send_signal(signal.SIGCONT)  # whoever traced it has left it stopped
            self.victim.stdin.write("?\n")
            self.victim.stdin.flush()
            if select.select([self.victim.stdout], [], [], LIMIT_S)[0]:
                self.victim.stdout.readline()

    # Servers and secrets.

    def _serve(self) -> None:
        answer = self.token.encode()
        names = {
            "TCP4": self._listening(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "UDP": self._listening(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "ABSTRACT": self._listening(socket.AF_UNIX, socket.SOCK_STREAM, f"\0lathe-escape-{os.getpid()}"),
            "PATHNAME": self._listening(socket.AF_UNIX, socket.SOCK_STREAM, str(self.sockets / "s")),
            "DATAGRAMS": self._listening(socket.AF_UNIX, socket.SOCK_DGRAM, str(self.sockets / "d")),
        }
        names["XSOCKET"] = self._listening(socket.AF_UNIX, socket.SOCK_STREAM, f"/tmp/.X11-unix/X{os.getpid()}")
        self.environ["HERE"] = here = own_address()
        names["HERE_TCP"] = self._listening(socket.AF_INET, socket.SOCK_STREAM, (here, 0))
        names["HERE_UDP"] = self._listening(socket.AF_INET, socket.SOCK_DGRAM, (here, 0))
        with contextlib.suppress(OSError):
            names["TCP6"] = self._listening(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))
        with contextlib.suppress(OSError):
            names["BUS"] = self._listening(socket.AF_UNIX, socket.SOCK_STREAM, f"/run/lathe-escape-{os.getpid()}")
        for name, one in names.items():
            threading.Thread(target=self._answer, args=(one, answer, name), daemon=True).start()
            at = one.getsockname()
            at = at.decode() if isinstance(at, bytes) else at
            self.environ[name] = at.lstrip("\0") if isinstance(at, str) else str(at[1])

    def _listening(self, family: int, kind: int, address: Any) -> socket.socket:
        one = socket.socket(family, kind)
        one.bind(address)
        if kind == socket.SOCK_STREAM:
            one.listen()
        if isinstance(address, str) and not address.startswith("\0"):
            self.closing.callback(lambda: Path(address).unlink(missing_ok=True))
        return one

    def _answer(self, one: socket.socket, answer: bytes, name: str) -> None:
        while True:
            if one.type == socket.SOCK_STREAM:
                with contextlib.suppress(OSError):
                    inner, _ = one.accept()
                    inner.recv(100)
                    inner.send(answer)
                    inner.close()
            else:
                _, sender = one.recvfrom(100)
                if name == "DATAGRAMS":
                    self.touched.write_text("datagram\n")
                elif sender:
                    one.sendto(answer, sender)

    def _leave_secrets(self) -> None:
        for path in (Path(self.environ["TEMPORARY"]), Path(self.environ["SHARED"])):
            path.unlink(missing_ok=True)
            path.write_text(self.token)
            path.chmod(0o600)
            self.closing.callback(path.unlink, missing_ok=True)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.shmat.restype = ctypes.c_void_p
        key = self.environ["KEY"].encode()
        libc.syscall(ctypes.c_long(248), b"user", key, self.token.encode(), len(self.token), ctypes.c_long(-4))
        number = libc.shmget(int(self.environ["SHM"]), 4096, 0o1600)
        at = libc.shmat(number, None, 0)
        if number >= 0 and at not in (None, ctypes.c_void_p(-1).value):
            ctypes.memmove(at, self.token.encode() + b"\0", len(self.token) + 1)
        self.closing.callback(lambda: libc.shmctl(number, 0, None))

    def close(self) -> None:
        if self.victim is not None:
            self.victim.kill()
            self.victim.wait()
        self.closing.close()


async def attempt(world: World, tier: str, one: Attempt) -> str:
    """Make an attempt; return how it got out, "" where it did not; raise `ConfigError` without the tier."""
    world.reset()
    before = world.look()
    argv = ["/bin/bash", "-c", one.script] if one.language == "bash" else ["/usr/bin/python3", "-c", one.script]
    with inherited(world.out):
        output = plainly(world, argv) if tier == "none" else await confined(world, tier, argv)
    if "stayed" in one.script:
        await asyncio.sleep(1.5)
        if (world.ws / "stayed").exists():
            return "a process outlived the sandbox"
    if one in ATTEMPTS["git"]:
        world.use_git()
    text = output.decode(errors="replace")
    if os.environ.get("SHOW"):
        print(tier, one.name, text[-600:])
    if world.token in text:
        return "it read the secret"
    if "ESCAPED" in text:
        return "a call succeeded that must not"
    after = world.look()
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return f"{', '.join(sorted(changed)[:3])} changed" if changed else ""


def own_address() -> str:
    """Return an address of this machine that others could have, the loopback one where it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def plainly(world: World, argv: list[str]) -> bytes:
    """Run a program as any careless parent would; return its output."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            argv, cwd=world.ws, env=world.environ, close_fds=False, capture_output=True, timeout=LIMIT_S, check=False
        )
        return done.stdout + done.stderr
    return b""


async def confined(world: World, tier: str, argv: list[str]) -> bytes:
    """Run a program in a sandbox of its own, which ends with it; return its output."""
    egress = Egress(Destinations(["allowed.example"]))
    policy = SandboxPolicy(writable_roots=(str(world.ws),), hosts=("allowed.example",))
    hidden = (str(world.state),)
    tiers = (STARTED_BY[tier],)
    runner = Runner(policy, cwd=world.ws, env=world.environ, hidden=hidden, tiers=tiers, egress=egress)
    output = bytearray()
    try:
        await runner.start()
        process = await runner.spawn(argv, cwd=str(world.ws), on_output=output.extend)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), LIMIT_S)
    finally:
        await egress.aclose()
        await runner.aclose()
    return bytes(output)


@contextlib.contextmanager
def inherited(folder: Path) -> Iterator[None]:
    """Hold a descriptor of a folder that programs started meanwhile inherit, as a careless parent leaves it."""
    number = os.open(folder, os.O_RDONLY)
    os.set_inheritable(number, True)
    try:
        yield
    finally:
        os.close(number)


async def run(world: World, families: list[str], tiers: list[str]) -> dict[str, dict[str, str]]:
    """Return how each attempt got out, by tier and attempt; a tier that does not work here has no entry."""
    found: dict[str, dict[str, str]] = {}
    for tier in tiers:
        results: dict[str, str] = {}
        try:
            for family in families:
                for one in ATTEMPTS[family]:
                    if not (one.needs_root and os.geteuid() != 0):
                        results[f"{family}: {one.name}"] = await attempt(world, tier, one)
        except ConfigError as error:
            sys.stderr.write(f"{tier} does not work here: {error.message}\n")
            continue
        found[tier] = results
    return found


def prepared(user: int) -> Path:
    """Return a folder for the suite that no temporary folder holds, with a set-user-id shell and a folder of root's."""
    base = Path(tempfile.mkdtemp(prefix="lathe-escape-", dir="/srv" if os.geteuid() == 0 else Path.home()))
    base.chmod(0o755)
    (base / "roots").mkdir(mode=0o755)
    shutil.copy("/bin/bash", base / "suid")
    (base / "suid").chmod(0o4755)
    os.chown(base, user, user)
    x11 = Path("/tmp/.X11-unix")
    if not x11.exists():
        x11.mkdir()
        x11.chmod(0o1777)
    return base


def again(arguments: list[str], user: int) -> int:
    """Run the suite in a process with the token in its environment, in its own mount namespace, as `user`."""
    base = prepared(user)
    command = [sys.executable, __file__, *arguments, "--base", str(base)]
    if os.geteuid() == 0:
        if user:
            command[0] = "/usr/bin/python3"
            command = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "--", *command]
        command = ["unshare", "--mount", "--propagation", "private", "--", *command]
    packages = os.pathsep.join(path for path in sys.path if path)
    environ = {
        **os.environ,
        _TOKEN: f"token-{os.urandom(12).hex()}",
        "PYTHONPATH": packages,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    try:
        return subprocess.run(command, env=environ, check=False).returncode
    finally:
        shutil.rmtree(base, ignore_errors=True)


def report(found: dict[str, dict[str, str]], *, as_json: bool) -> tuple[list[str], list[str]]:
    """Print what was found; return the escapes, and the attempts that prove nothing."""
    free = found.get("none", {})
    useless = [name for name, how in free.items() if not how]
    escapes = [
        f"{tier}: {name}: {how}"
        for tier, all_of in found.items()
        if tier != "none"
        for name, how in all_of.items()
        if how
    ]
    user = "root" if os.geteuid() == 0 else f"user {os.geteuid()}"
    if as_json:
        print(json.dumps({"at": time.time(), "user": user, "found": found, "useless": useless}))
        return escapes, useless
    rows = [
        [
            tier,
            str(len(all_of)),
            str(sum(not how for how in all_of.values())),
            str(sum(bool(how) for how in all_of.values())),
        ]
        for tier, all_of in found.items()
    ]
    print(table([f"tier, as {user}", "attempts", "blocked", "got out"], rows))
    print("\n".join([*(f"ESCAPE {one}" for one in escapes), *(f"proves nothing: {one}" for one in useless)]))
    return escapes, useless


def main() -> int:
    """Run, print, and return 1 with --check where anything got out or an attempt proves nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=list(ATTEMPTS), action="append")
    parser.add_argument("--tier", choices=TIERS, action="append")
    parser.add_argument("--as-user", action="store_true", help=f"as user {USER}; needs root")
    parser.add_argument("--base", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.base is None:
        return again(sys.argv[1:], USER if options.as_user else os.geteuid())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    world = World(Path(options.base), os.environ[_TOKEN])
    try:
        found = asyncio.run(run(world, options.only or list(ATTEMPTS), options.tier or TIERS))
    finally:
        world.close()
    escapes, useless = report(found, as_json=options.json)
    return int(options.check and bool(escapes or useless))


if __name__ == "__main__":
    sys.exit(main())
