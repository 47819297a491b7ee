"""The exec server: starts commands for a `Runner`, in the very sandbox that it runs in itself.

It is a program of its own, run by `python -I -S -E` once per runner, with a SOCK_SEQPACKET socket as fd 3, and
imports next to nothing: its start-up time and its memory are paid by every run of Lathe. Messages are fields joined
by NUL; the first field is one letter.

From Lathe: `L` landlock rules, `N` no network, `E` only the container around (one of them, first of all), `U` resource
limits, `S` spawn, `K` kill a command's tree, `I` interrupt, `Q` end everything and leave, `M` the message is in the
memory file that comes with it (it was too long for a packet), `C` connect to a port of the sandbox itself, `T` try to
read and to write paths.
To Lathe: `R` ready (what tells who changes files comes with it, see `notify.py`), `P` pid (a pty's master comes with
it), `C` connected (the socket comes with it), `F` could not start or connect, `X` exit status, `D` tree is dead, `E`
nothing runs any longer (and how many spawns have been asked for so far), `T` the errors of reading and writing.

When Lathe is gone, in whatever way, the socket reads end-of-file: all that was started here is killed.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # has no stub; `signal` costs an enum and 300 KB
import _socket
import posix
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MARK = b"LATHE_COMMAND="
EVERYTHING = b"*"
"""Stands in a `K` for the name of a command: all commands and what they left behind, but not this server."""

_GRACE = 0.5
_GIVE_UP = 5.0
SIGNALS = [n for n in range(1, 32) if n not in (_signal.SIGKILL, _signal.SIGSTOP)]
_ENOENT = 2
_MOST_FILES = 1 << 20
_FILE_TYPE, _REGULAR = 0o170000, 0o100000
_PR_SET_CHILD_SUBREAPER = 36
_THREADS = 17  # counted from the state in /proc/PID/stat


def _read(path: str) -> bytes:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = b""
        while block := posix.read(fd, 65536):
            data += block
    except OSError:
        return b""
    finally:
        posix.close(fd)
    return data


def _children() -> dict[bytes, list[bytes]]:
    """Return the pids below each pid, as the mounted /proc counts them, without zombies.

    What looks like one and has more than one thread has only lost its first (proc(5), num_threads).
    """
    below: dict[bytes, list[bytes]] = {}
    for name in posix.listdir("/proc"):
        if not name.isdigit():
            continue
        # the command's name stands in brackets and may hold anything, brackets and spaces too
        state = _read(f"/proc/{name}/stat").rpartition(b")")[2].split()
        if len(state) > _THREADS and (state[0] not in (b"Z", b"X") or int(state[_THREADS]) > 1):
            below.setdefault(state[1], []).append(name.encode())
    return below


def _status(pid: bytes) -> tuple[list[int], list[int]]:
    """Return a process's pid and session in each pid namespace, outermost (that of /proc) first."""
    pids: list[int] = []
    sessions: list[int] = []
    for line in _read(f"/proc/{pid.decode()}/status").splitlines():
        if line.startswith(b"NSpid:"):
            pids = [int(n) for n in line.split()[1:]]
        elif line.startswith(b"NSsid:"):
            sessions = [int(n) for n in line.split()[1:]]
    return pids, sessions


def find(leader: int, mark: bytes) -> tuple[list[int], bool]:
    """Return the live processes of one command, or with no `mark` all below this server, and whether that is sure.

    A process belongs to the command when it is its leader, is in its session, carries its mark in its first
    environment, or descends from such a process; `setsid` and a double fork do not shake all of that off. It is not
    sure while some process has no environment: most likely it is just being executed.
    """
    # /proc may be one of an outer pid namespace (where a fresh one cannot be mounted), so "self" says who we are
    me = posix.readlink("/proc/self").encode()
    level = len(_status(me)[0]) - 1
    below = _children()
    found: list[int] = []
    sure = True
    todo = [(pid, not mark) for pid in below.get(me, ())]
    while todo:
        name, hit = todo.pop()
        pids, sessions = _status(name)
        if len(pids) <= level:
            continue
        if not hit:
            first = _read(f"/proc/{name.decode()}/environ")
            sure = sure and bool(first)
            hit = leader in (pids[level], sessions[level]) or mark in b"\0" + first
        if hit:
            found.append(pids[level])
        todo.extend((pid, hit) for pid in below.get(name, ()))
    return found, sure


def send_signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            posix.kill(pid, number)
        except OSError:
            continue


class _Ending:
    """The end of one command's tree (or of everything), in progress: asked first, then killed."""

    __slots__ = ("asked", "clean", "leader", "mark", "next", "pause", "started")

    def __init__(self, leader: int, mark: bytes) -> None:
        self.leader = leader
        self.mark = mark
        self.started = self.next = time.monotonic()
        self.pause = 0.002
        self.asked = False
        self.clean = 0

    def step(self) -> bool:
        """Signal what is left; return whether nothing is, or nothing can be done about it."""
        left, sure = find(self.leader, self.mark)
        waited = time.monotonic() - self.started
        # one look is not enough: a process may fork behind its back, and be gone when its own turn comes
        self.clean = 0 if left else self.clean + 1
        if self.clean >= (2 if sure else 6) or waited > _GIVE_UP:
            return True
        if not left:
            self.next = time.monotonic() + (0 if sure else 0.002)
            return False
        if waited > _GRACE:
            send_signal(left, _signal.SIGKILL)
        elif not self.asked:
            self.asked = True
            send_signal(left, _signal.SIGTERM)
            send_signal(left, _signal.SIGCONT)
        self.next = time.monotonic() + self.pause
        self.pause = min(self.pause * 2, 0.05)
        return False


def program(name: bytes, environment: dict[bytes, bytes]) -> bytes:
    """Return the path of a program; raise OSError where PATH has none."""
    if b"/" in name:
        return name
    for folder in environment.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin").split(b":"):
        path = (folder or b".") + b"/" + name
        # a failed posix_spawn would cost as much as one that succeeds
        if posix.access(path, posix.X_OK) and posix.stat(path).st_mode & _FILE_TYPE == _REGULAR:
            return path
    raise FileNotFoundError(_ENOENT, "not found")


class Server:
    """Serves one runner until it says so or is gone."""

    def __init__(self, link: _socket.socket) -> None:
        self.link = link
        self.running: dict[int, bytes] = {}
        self.endings: dict[bytes, _Ending] = {}
        self.asked = self.told = 0
        self.environment: dict[bytes, bytes] = dict(posix.environ)
        self.null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        self.cpu_seconds = 0
        self.oom_score = -1
        self.oom_scores = (b"", b"")

    def tell(self, *fields: bytes, fd: int = -1) -> None:
        message = b"\0".join(fields)
        if fd < 0:
            self.link.send(message)
        else:
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))
            self.link.sendmsg([message], [rights])

    def spawn(self, fields: list[bytes], fds: list[int]) -> None:
        name, cwd, rows, columns, count, *rest = fields
        argv, changes = rest[: int(count)], rest[int(count) :]
        environment = dict(self.environment)
        for change in changes:
            key, _, value = change.partition(b"=")
            environment[key] = value
        environment[_MARK[:-1]] = name
        master = slave = -1
        try:
            posix.chdir(cwd)
            if rows != b"0":
                master, slave, path = _open_terminal(int(rows), int(columns))
                # the session leader's first open of a terminal makes it the controlling one
                actions: list[tuple[int, ...]] = [(posix.POSIX_SPAWN_OPEN, 0, path, posix.O_RDWR, 0)]  # type: ignore[list-item]
                actions += [(posix.POSIX_SPAWN_DUP2, 0, 1), (posix.POSIX_SPAWN_DUP2, 0, 2)]
            else:
                source = fds[1] if len(fds) > 1 else self.null
                actions = [(posix.POSIX_SPAWN_DUP2, source, 0)]
                actions += [(posix.POSIX_SPAWN_DUP2, fds[0], 1), (posix.POSIX_SPAWN_DUP2, fds[0], 2)]
            pid = self.execute(argv, environment, actions)
        except OSError as error:
            self.tell(b"F", name, str(error.errno).encode(), b"folder" if error.filename == cwd else b"program")
        else:
            self.running[pid] = name
            self.tell(b"P", name, str(pid).encode(), fd=master)
        finally:
            for fd in (master, slave):
                if fd >= 0:
                    posix.close(fd)

    def limit(self, fields: list[bytes], fds: list[int]) -> None:
        """Set resource limits, given as numbers and values in turn; that on CPU counts for commands only.

        The first two fields are the scores of a command and of this server where memory runs out. The file that comes
        along is this server's /proc/self/oom_score_adj, which it may not be able to open itself.
        """
        import resource  # paid only where there are limits

        if fds:
            self.oom_score = posix.dup(fds[0])
            posix.set_inheritable(self.oom_score, False)
            self.oom_scores = (fields[0], fields[1])
        for number, value in zip(map(int, fields[2::2]), map(int, fields[3::2]), strict=True):
            if number == resource.RLIMIT_CPU:
                self.cpu_seconds = value
                continue
            hard = resource.getrlimit(number)[1]
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (most, most))

    def connect(self, name: bytes, port: int) -> None:
        link = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            link.connect(("127.0.0.1", port))
        except OSError as error:
            self.tell(b"F", name, str(error.errno).encode(), b"port")
        else:
            self.tell(b"C", name, fd=link.fileno())
        finally:
            link.close()

    def execute(self, argv: list[bytes], environment: dict[bytes, bytes], actions: list[tuple[int, ...]]) -> int:
        """Start a program with what it is to inherit, and this server is not to keep."""
        if self.oom_score >= 0:
            # where memory runs out, commands go first, and never this server, which alone can end them
            posix.write(self.oom_score, self.oom_scores[0])
        if self.cpu_seconds:
            import resource

            # this server may use more in the end than a single command, and a hard limit could never be lifted again
            own = resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_seconds, own[1]))
        try:
            return self.spawn_now(argv, environment, actions)
        finally:
            if self.oom_score >= 0:
                posix.write(self.oom_score, self.oom_scores[1])
            if self.cpu_seconds:
                resource.setrlimit(resource.RLIMIT_CPU, own)

    def spawn_now(self, argv: list[bytes], environment: dict[bytes, bytes], actions: list[tuple[int, ...]]) -> int:
        return posix.posix_spawn(
            program(argv[0], environment),
            argv,
            environment,
            file_actions=actions,
            setsid=True,
            setsigmask=[],
            setsigdef=SIGNALS,
        )

    def handle(self, fields: list[bytes], fds: list[int]) -> None:
        kind = fields[0]
        if kind == b"S":
            self.asked += 1
            self.spawn(fields[1:], fds)
            self.reap()  # where it did not start, and was the only one
        elif kind == b"U":
            self.limit(fields[1:], fds)
        elif kind == b"K":
            leader = int(fields[2])
            if not leader:  # killed before it was known to have started
                leader = next((pid for pid, name in self.running.items() if name == fields[1]), 0)
            elif self.running.get(leader, fields[1]) != fields[1]:
                leader = 0  # it is gone, and has left its number to another command
            mark = b"" if fields[1] == EVERYTHING else b"\0" + _MARK + fields[1] + b"\0"
            self.endings.setdefault(fields[1], _Ending(leader or -1, mark))
        elif kind == b"I":
            if self.running.get(int(fields[2])) == fields[1]:
                posix.killpg(int(fields[2]), _signal.SIGINT)
        elif kind == b"Q":
            self.endings[b""] = _Ending(-1, b"")
        elif kind == b"C":
            self.connect(fields[1], int(fields[2]))
        elif kind == b"T":
            tried = [str(_error_of(path, mode)).encode() for path in fields[2:] for mode in _TRIES]
            self.tell(b"T", fields[1], *tried)
        elif kind == b"M":
            size = posix.fstat(fds[0]).st_size
            self.handle(posix.pread(fds[0], size, 0).split(b"\0"), fds[1:])

    def receive(self) -> bool:
        """Serve one message; return whether there was one."""
        data, ancillary, _flags, _address = self.link.recvmsg(65536, 64, _socket.MSG_CMSG_CLOEXEC)
        fds: list[int] = []
        for _level, _type, rights in ancillary:
            fds += [int.from_bytes(rights[i : i + 4], sys.byteorder) for i in range(0, len(rights), 4)]
        try:
            if data:
                self.handle(data.split(b"\0"), fds)
        finally:
            for fd in fds:
                posix.close(fd)
        return bool(data)

    def reap(self) -> None:
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                # orphans come to this process, so without a child there is nothing below it
                if self.told != self.asked:
                    self.told = self.asked
                    self.tell(b"E", str(self.asked).encode())
                return
            if not pid:
                return
            name = self.running.pop(pid, None)
            if name is not None:
                self.tell(b"X", name, str(posix.waitstatus_to_exitcode(status)).encode())

    def end(self) -> bool:
        """Take each ending in progress a step on; return whether everything was to end and has ended."""
        now = time.monotonic()
        for name, ending in list(self.endings.items()):
            if ending.next <= now and ending.step():
                if not name:
                    return True
                self.reap()
                del self.endings[name]
                self.tell(b"D", name)
        return False

    def serve(self, wake: int, listener: int) -> None:
        poll = select.poll()
        poll.register(self.link.fileno(), select.POLLIN)
        poll.register(wake, select.POLLIN)
        facts = (str(posix.getpid()).encode(), str(posix.statvfs("/").f_flag & posix.ST_RDONLY).encode())
        self.tell(b"R", *facts, fd=listener)
        if listener >= 0:
            posix.close(listener)
        while True:
            wait = None
            if self.endings:
                wait = max(0.0, min(e.next for e in self.endings.values()) - time.monotonic()) * 1000
            for fd, _event in poll.poll(wait):
                if fd == wake:
                    posix.read(wake, 4096)
                    self.reap()
                elif not self.receive():
                    return
            if self.endings and self.end():
                return


_TRIES = (posix.O_RDONLY, posix.O_WRONLY)


def _error_of(path: bytes, mode: int) -> int:
    """Return why a path cannot be opened, 0 where it can; of a folder (it ends in /), why nothing can be made in it."""
    flags = mode | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
    if mode == posix.O_WRONLY and path.endswith(b"/"):
        flags |= posix.O_TMPFILE
    try:
        posix.close(posix.open(path, flags, 0o600))
    except OSError as error:
        return error.errno or 0
    return 0


def _open_terminal(rows: int, columns: int) -> tuple[int, int, str]:
    import termios  # paid only where a terminal is wanted

    master, slave = posix.openpty()
    posix.set_inheritable(master, False)
    posix.set_inheritable(slave, False)
    termios.tcsetwinsize(slave, (rows, columns))
    return master, slave, posix.ttyname(slave)


def _confine(link: _socket.socket) -> None:
    """Do what the first message says: apply landlock rules, or what holds without them."""
    landlock = __import__("landlock")
    kind, network, uid, gid, *fields = link.recv(1 << 20).split(b"\0")
    if kind == b"N":
        landlock.keep_abstract_sockets_inside()
        return
    if kind == b"E":
        landlock.drop(network=network == b"1", user=int(uid), group=int(gid))
        return
    lists = []
    while fields:
        end = 1 + int(fields[0])
        lists.append(fields[1:end])
        fields = fields[end:]
    landlock.confine(*lists, network=network == b"1", user=int(uid), group=int(gid))


def _listen() -> int:
    """Return what tells Lathe who changes files, -1 where the kernel has no such thing."""
    try:
        listener: int = __import__("notify").listen()
    except OSError:
        return -1
    return listener


def _adopt_orphans() -> None:
    """Become the parent of every orphan below, which is how a double fork is still found."""
    import _ctypes  # the whole of ctypes would cost three times this

    prctl = _ctypes.dlsym(_ctypes.dlopen("", 2), "prctl")
    if _ctypes.call_function(prctl, (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")


def _kill_everything() -> None:
    ending = _Ending(-1, b"")
    ending.started -= _GRACE
    while not ending.step():
        time.sleep(0.001)


def main(*, confine: bool = False, notify: bool = False, make: Callable[[_socket.socket], Server] = Server) -> None:
    """Serve the socket at fd 3; `make` returns whoever does it."""
    # what Lathe was itself started with (a terminal's, a test runner's) is not for commands
    posix.closerange(4, _MOST_FILES)
    posix.set_inheritable(3, False)
    link = _socket.socket(fileno=3)
    alone = posix.getpid() == 1
    if not alone:
        _adopt_orphans()
    woken, wake = posix.pipe()
    posix.set_blocking(wake, False)
    _signal.signal(_signal.SIGCHLD, lambda _number, _frame: None)
    _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
        _signal.signal(number, _signal.SIG_IGN)
    if confine:
        _confine(link)
    server = make(link)
    # from here until Lathe has the listener, whoever opens a file to write waits for ever
    listener = _listen() if notify else -1
    try:
        server.serve(woken, listener)
    except (BrokenPipeError, ConnectionResetError):
        pass  # Lathe is gone in the middle of a message
    finally:
        # as pid 1 of a namespace, leaving is what kills the rest, and the kernel misses none
        if not alone:
            _kill_everything()
