"""The keeper: a program that makes rooms, a process for each, and starts an exec server in them.

It is run by `python -I -S -E` as root, once per run of evaluations, and forks: what a trial would pay for an
interpreter of its own is paid once. A room is what bubblewrap makes of an overlay: it sets up the namespaces and the
file system, and then waits for ever before its command (`--block-fd`), as the first process in there, which no signal
from inside ends. Commands come in as they do with `docker exec`: by setns(2), without what they need no capability
for.

Root inside is a user of its own outside: the lower trees are mounted with their owners shifted (mount_setattr(2)).
All mounts lie in the mount namespace of the room's process, so that none outlives it, however it ends.

Messages are JSON in packets of fd 3 (the keeper's) and of the room's own socket, files come along.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource  # noqa: F401 - the exec server asks for it when its root is another
import select
import shutil
import signal
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Any, Final, NoReturn

from lathe.evals.environments import apart, inlet, kernel, leftovers, parcels
from lathe.evals.environments.kernel import Trouble
from lathe.evals.environments.serving import RoomServer
from lathe.sandbox import exec_server, netns, seccomp

_STAGE: Final = "/tmp"
"""Where the room's process mounts things for bubblewrap, seen by nobody else."""
_USERS: Final = 0x60000000
_COUNT: Final = 65536
_READY_S: Final = 20.0
_LOOK_S: Final = 0.001
_LINK: Final = 3
_READ: Final = {"x86_64": "0", "aarch64": "63"}
"""The number of read(2)."""


def main() -> None:
    """Make a room for each message, until whoever sends them is gone."""
    link = socket.socket(fileno=_LINK)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        users = _user_namespace()
        _try_shifting(users)
    except (OSError, Trouble) as error:
        _say(link, error=str(error))
        return
    calls = seccomp.program(network=True) or b""
    gc.disable()
    gc.freeze()  # so that what is forked from here writes to as few pages as it can
    _say(link, ready=os.getpid())
    while True:
        data, fds, _, _ = socket.recv_fds(link, 1 << 16, 1, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        if os.fork() == 0:
            link.close()
            kernel.die_with_parent()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _leave_after(_Room(json.loads(data), socket.socket(fileno=fds[0]), users, calls).keep)
        os.close(fds[0])


def _say(link: socket.socket, **what: object) -> None:
    link.send(json.dumps(what).encode())


def _leave_after(what: Any) -> NoReturn:
    """End this process, a fork, when that is done; nothing of what it was forked from is cleaned up."""
    status = 1
    try:
        what()
        status = 0
    except BrokenPipeError:
        pass
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def _user_namespace() -> int:
    """Return a user namespace in which numbers from 0 on are those from `_USERS` on out here."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        kernel.unshare(kernel.NEWUSER)
        os.write(tell, b"1")
        signal.pause()
    os.close(tell)
    try:
        if not os.read(told, 1):
            raise Trouble("user namespaces cannot be made here")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 {_USERS} {_COUNT}\n")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(told)
        os.kill(pid, signal.SIGKILL)


def _try_shifting(users: int) -> None:
    try:
        os.close(kernel.tree("/usr", users))
    except OSError as error:
        raise Trouble(f"this kernel cannot mount a folder with its owners shifted ({error.strerror})") from None


class _Room:
    """One room, from the process that holds its mounts."""

    def __init__(self, wanted: dict[str, Any], link: socket.socket, users: int, calls: bytes) -> None:
        self.wanted = wanted
        self.link = link
        self.users = users
        self.calls = calls
        self.first = self.outer = 0
        self.handle = -1
        self.outside = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.opened = False
        self.own = self.mounts = -1
        self.helpers: set[int] = set()

    def keep(self) -> None:
        """Make it, serve it, and end all that is in it."""
        try:
            self.make()
        except (OSError, Trouble) as error:
            self.end()
            _say(self.link, error=str(error))
            return
        try:
            _say(self.link, ready=self.first)
            self.serve()
        finally:
            self.end()

    def make(self) -> None:
        """Mount its file system and have bubblewrap enter it."""
        kernel.adopt_orphans()
        os.mkdir(self.wanted["folder"])  # noqa: PTH102
        for _, upper, work, *_ in self.wanted["layers"]:
            os.mkdir(upper)  # noqa: PTH102
            os.mkdir(work)  # noqa: PTH102
            os.chown(upper, _USERS, _USERS)
        own = apart.make(self.wanted["folder"], _USERS)
        kernel.unshare(kernel.NEWNS)
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        self.own = os.open(own, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        wanted = self.wanted
        sources = [self.source(here) for here, _ in wanted["mounts"]]
        system = kernel.tree("/sys", -1)
        layers = [self.layer(each) for each in wanted["layers"]]
        kernel.mount("tmpfs", _STAGE, "tmpfs", kernel.MS_NODEV, "mode=755")
        arguments: list[str] = []
        for number, (layer, (there, *_)) in enumerate(zip(layers, wanted["layers"], strict=True)):
            place = f"{_STAGE}/layer{number}"
            arguments += ["--bind", self.overlay(place, *layer), there]
            if there == "/":
                arguments += ["--proc", "/proc", "--dev", "/dev"]
                arguments += ["--ro-bind", self.place(system, "sys"), "/sys"]
                # as mounts of their own, so that nobody in there moves or removes what others are laid over
                for name in apart.FOLDERS:
                    arguments += ["--bind", f"{place}{name}", name]
        for number, (source, (_, there)) in enumerate(zip(sources, wanted["mounts"], strict=True)):
            arguments += ["--ro-bind", self.place(source, f"mount{number}"), there]
        self.enter(arguments)

    def source(self, here: str) -> int:
        """Return a tree of a folder or file of the machine, with its owners shifted where that can be."""
        try:
            return kernel.tree(here, self.users)
        except FileNotFoundError:
            raise Trouble(f"There is no {here} to be mounted") from None
        except OSError:
            return kernel.tree(here, -1)

    def layer(self, wanted: list[str]) -> tuple[list[int], str, str]:
        """Return the trees below of an overlay, and its folders for what changes, as this process reaches them."""
        _, upper, work, *lowers = wanted
        held = [os.open(each, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for each in (upper, work)]
        return [kernel.tree(lower, self.users) for lower in lowers], *(f"/proc/self/fd/{each}" for each in held)  # type: ignore[return-value]

    def overlay(self, place: str, lowers: list[int], upper: str, work: str) -> str:
        """Mount an overlay and return where."""
        name = os.path.basename(place)  # noqa: PTH119
        below = ":".join(self.place(each, f"{name}.{at}") for at, each in enumerate(lowers))
        os.mkdir(place)  # noqa: PTH102
        options = f"lowerdir={below},upperdir={upper},workdir={work},redirect_dir=off,metacopy=off,index=off,volatile"
        kernel.mount("overlay", place, "overlay", 0, options)
        return place

    def place(self, tree: int, name: str) -> str:
        """Put a tree where bubblewrap finds it."""
        path = f"{_STAGE}/{name}"
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            os.mkdir(path)  # noqa: PTH102
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        kernel.put_tree(tree, path)
        os.close(tree)
        return path

    def enter(self, mounts: list[str]) -> None:
        """Start bubblewrap and wait until it has made the room."""
        said, say = os.pipe()
        block, _never = os.pipe()  # the end that would wake it is never used, and goes with this process
        errors = os.memfd_create("lathe-room")
        arguments = [self.wanted["program"], "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"]
        arguments += ["--unshare-cgroup-try", "--as-pid-1", "--die-with-parent", "--hostname", self.wanted["name"]]
        arguments += [*mounts, "--info-fd", str(say), "--block-fd", str(block), "--", "/nothing"]
        self.outer = os.fork()
        if self.outer == 0:
            kernel.setns(self.users, kernel.NEWUSER)
            kernel.become_root()
            os.dup2(errors, 2)
            for fd in (say, block):
                os.set_inheritable(fd, True)
            _leave_after(lambda: os.execve(arguments[0], arguments, {}))
        os.close(say)
        os.close(block)
        text = b""
        while part := os.read(said, 4096):
            text += part
            if b"}" in text:
                break
        try:
            self.first = int(json.loads(text)["child-pid"])
            self.handle = os.pidfd_open(self.first)
            self.wait(block)
        except (ValueError, OSError, Trouble):
            os.waitpid(self.outer, 0)
            self.outer = 0
            why = os.pread(errors, 2000, 0).decode("utf-8", "replace").strip().removeprefix("bwrap: ")
            raise Trouble(why or "bubblewrap ended without a word") from None
        finally:
            os.close(said)
            os.close(errors)

    def wait(self, block: int) -> None:
        """Return when bubblewrap has done all and waits; it does not say so itself, but the kernel knows."""
        number = _READ.get(os.uname().machine)
        if number is None:
            raise Trouble("the system calls of this processor are not known")
        limit = time.monotonic() + _READY_S
        while time.monotonic() < limit:
            words = Path(f"/proc/{self.first}/syscall").read_text().split()
            if words[:1] == [number] and int(words[1], 16) == block:
                return
            if select.select([self.handle], [], [], _LOOK_S)[0]:
                raise Trouble("it ended")
        os.kill(self.first, signal.SIGKILL)
        raise Trouble("bubblewrap did not come to an end with it")

    def serve(self) -> None:
        """Do what is asked for until nobody is there to ask, or the room is gone."""
        poll = select.poll()
        poll.register(self.link.fileno(), select.POLLIN)
        poll.register(self.handle, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self.handle:
                    return
                data, fds, _, _ = socket.recv_fds(self.link, 1 << 16, 1, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    return
                what = json.loads(data)
                if what["do"] == "end":
                    return
                if what["do"] == "hand over":
                    self.hand_over(what, fds[0])
                else:
                    self.do(what, fds)
                for each in fds:
                    os.close(each)
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                self.helpers.discard(pid)

    def do(self, what: dict[str, Any], fds: list[int]) -> None:
        """Do one thing in a process of its own; the exec server's is born among the processes of the room."""
        serves = what["do"] == "serve"
        if serves:
            kernel.setns(self.handle, kernel.NEWPID)
        pid = os.fork()
        if pid:
            if serves:
                kernel.setns(self.outside, kernel.NEWPID)
                self.opened = True
            self.helpers.add(pid)
            return
        kinds = {"serve": self.start_server, "network": self.network, "put": self.put, "get": self.get}
        kinds["mount"] = self.mount
        # each tells of its end by closing the file
        _leave_after(lambda: kinds[what["do"]](what, fds[0]))

    def go_in(self) -> None:
        """Become root of the room, unseen by its processes."""
        kinds = kernel.NEWUSER | kernel.NEWNET | kernel.NEWIPC | kernel.NEWUTS | kernel.NEWCGROUP
        if not self.opened:
            # bubblewrap lets no program of a mount become another user; in a room `su` and `sudo` are to work
            kernel.setns(self.handle, kernel.NEWNS)
            for there in (*(there for there, *_ in self.wanted["layers"]), *apart.FOLDERS):
                kernel.mount("none", there, "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_NODEV)
        self.go_in_mounts()
        kernel.setns(self.handle, kinds)
        os.chdir("/")
        kernel.become_root()

    def go_in_mounts(self) -> None:
        """See what the room sees, or from its verifier's phase on what that sees."""
        kernel.setns(self.mounts if self.mounts >= 0 else self.handle, kernel.NEWNS)

    def hand_over(self, what: dict[str, Any], fd: int) -> None:
        """Lay the verifier's own folders over the agent's, for what comes in from now on; with `end`, end the rest."""
        if what["end"]:
            kernel.setns(self.handle, kernel.NEWPID)
            gone = leftovers.end_from_a_child(self.first)
            kernel.setns(self.outside, kernel.NEWPID)
            if not gone:
                return
        self.mounts = apart.lay(self.own, self.go_in_mounts)
        socket.socket(fileno=os.dup(fd)).sendall(b"1")

    def start_server(self, what: dict[str, Any], fd: int) -> None:
        self.go_in()
        kernel.hide()
        os.dup2(fd, _LINK)
        null = os.open("/dev/null", os.O_RDWR)
        for each in (0, 1, 2):
            os.dup2(null, each)
        for path, mode in what["folders"]:
            parcels.make_folder(path, mode)
        os.umask(0o022)
        kernel.keep_filtered(self.calls)
        kernel.keep_capabilities((kernel.WAKE_ALARM,) if self.mounts >= 0 else ())
        environment = {os.fsencode(key): os.fsencode(value) for key, value in what["env"].items()}
        exec_server.main(make=lambda link: RoomServer(link, environment))

    def network(self, what: dict[str, Any], fd: int) -> None:
        """Send listeners for doors, and the descriptors of its way out, `netns.py`."""
        if what["doors"]:
            inlet.send_doors(fd, self.handle, what["doors"])
        if what["out"]:
            netns.main(os.dup(fd), self.first, what["out"], redirect=True)

    def put(self, what: dict[str, Any], fd: int) -> None:
        self.go_in()
        link = socket.socket(fileno=fd)
        parcels.answer(link, lambda stream: parcels.unpack(stream, what["there"], what["owner"]))

    def mount(self, what: dict[str, Any], fd: int) -> None:
        """Mount a folder of the machine in a room that runs already, for reading only."""
        tree = self.source(what["here"])
        kernel.make_readable_only(tree)
        self.go_in_mounts()
        parcels.make_folder(what["there"])
        kernel.put_tree(tree, what["there"])
        socket.socket(fileno=fd).sendall(b"1")

    def get(self, what: dict[str, Any], fd: int) -> None:
        self.go_in()
        link = socket.socket(fileno=fd)
        parcels.send(link, what["there"], what["most"])

    def end(self) -> None:
        """Kill all that is in the room, of which the kernel misses nothing, and remove what it has written."""
        if self.handle >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.handle, signal.SIGKILL)
        for pid in self.helpers:
            os.kill(pid, signal.SIGKILL)
        while self.outer:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        kernel.unmount(_STAGE)
        shutil.rmtree(self.wanted["folder"], ignore_errors=True)


if __name__ == "__main__":
    sys.exit("This program is started by Lathe.")
