"""The landlock tier: the exec server confines itself, and so all that it starts.

Used where user namespaces are not to be had. Needs Linux 6.2 (Landlock ABI 3): before that, `truncate` was not
covered and could empty any file. Landlock only adds rights, so what lies below a writable root cannot be protected,
and /tmp is that of the machine. The exec server imports this file by its bare name: nothing of Lathe above here.

Facts: Documentation/userspace-api/landlock.rst and seccomp_filter.rst of Linux.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct

LEAST_ABI = 3
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_SCOPES = 3  # abstract sockets and signals stay inside
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 38, 22, 24, 28
_NO_ROOT_BITS = 0b1111  # noroot and no_setuid_fixup, both locked
_CAPSET = {"x86_64": 126, "aarch64": 91}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_IO_URING_SETUP = 425
_KEYRINGS = {"x86_64": (248, 249, 250), "aarch64": (217, 218, 219)}  # add_key, request_key, keyctl
_SHARED = {"x86_64": (29, 30, 31, 68, 69, 70, 71), "aarch64": (186, 187, 188, 189, 194, 195, 196)}  # shm*, msg*
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
_SETPRIORITY = {"x86_64": 141, "aarch64": 140}
_DEVICES = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"]
_DEVICES += ["/dev/ptmx", "/dev/pts", "/dev/shm"]

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: int | bytes | None) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *(_argument(a) for a in arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _argument(value: int | bytes | None) -> ctypes.c_long | ctypes.c_char_p:
    return ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value)


def _prctl(option: int, *arguments: int) -> int:
    result: int = _libc.prctl(option, *(ctypes.c_ulong(n) for n in (*arguments, 0, 0, 0, 0)[:4]))
    return result


def version() -> int:
    """Return the kernel's Landlock ABI; 0 where there is none."""
    try:
        return _call(_CREATE_RULESET, None, 0, 1)
    except OSError:
        return 0


def confine(
    writable: list[bytes], readable: list[bytes], hidden: list[bytes], *, network: bool, user: int, group: int
) -> None:
    """Give up for good, for this process and its children, all writing but below `writable`; raise OSError.

    What is `hidden` cannot be read either, but for what is `readable`; names in hidden folders can be listed.
    Root becomes `user` and `group`, if they are not negative.
    """
    abi = version()
    if abi < LEAST_ABI:
        raise OSError(f"Landlock ABI {LEAST_ABI} (Linux 6.2) is needed, this kernel has {abi}")
    machine = os.uname().machine
    if machine not in _AUDIT_ARCH:
        raise OSError(f"no system call filter for {machine}")
    handled = (1 << (16 if abi >= 5 else 15)) - 1
    attributes = struct.pack("QQQ", handled, 0, _SCOPES)[: 24 if abi >= 6 else 8]
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    _allow(ruleset, b"/", _READ_DIR)
    for path in (*_everything_but(b"/", frozenset(hidden)), *readable):
        _allow(ruleset, path, _READ)
    for path in writable:
        _allow(ruleset, path, handled)
    for device in _DEVICES:
        _allow(ruleset, device.encode(), handled & (_READ | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV))
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        raise OSError("prctl(PR_SET_NO_NEW_PRIVS) failed")
    if os.geteuid() == 0:
        _drop_capabilities(machine, user, group)
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    _filter_calls(machine, network=network)
    _check(network=network)


def _allow(ruleset: int, path: bytes, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not there, or nothing that we could use anyway
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _FOR_FILES
        _call(_ADD_RULE, ruleset, 1, struct.pack("=Qi", rights, fd), 0)
    finally:
        os.close(fd)


def _everything_but(folder: bytes, hidden: frozenset[bytes]) -> list[bytes]:
    """Return paths that together hold all that lies below `folder`, but not what is hidden."""
    found = []
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    for entry in entries:
        if entry.path in hidden or entry.is_symlink():
            continue
        if any(path.startswith(entry.path + b"/") for path in hidden):
            found += _everything_but(entry.path, hidden)
        else:
            found.append(entry.path)
    return found


def _drop_capabilities(machine: str, user: int, group: int) -> None:
    """Make root an ordinary user, who happens to own root's files unless another is to be become."""
    if _prctl(_PR_SET_SECUREBITS, _NO_ROOT_BITS):
        raise OSError("prctl(PR_SET_SECUREBITS) failed")
    number = 0
    while _prctl(_PR_CAPBSET_DROP, number) == 0:
        number += 1
    if user >= 0:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
        # a change of user makes a process undumpable, and its /proc files root's
        _prctl(_PR_SET_DUMPABLE, 1)
    _call(_CAPSET[machine], struct.pack("Ii", 0x20080522, 0), bytes(24))


def _filter_calls(machine: str, *, network: bool) -> None:
    """Refuse the system calls that Landlock does not see and that reach what is outside.

    Keys of the person's ring and memory shared by number are not to be had, limits and priorities of
    other processes not to be set.
    Without `network`, `socket` makes nothing but local ones; io_uring, which could make others, is not there then.
    """
    allow, kill = 0x7FFF0000, 0x80000000
    refuse, missing = 0x00050000 | 13, 0x00050000 | 38  # EACCES, ENOSYS
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    program = [
        (load, 0, 0, 4),
        (equal, 1, 0, _AUDIT_ARCH[machine]),
        (answer, 0, 0, kill),
        (load, 0, 0, 0),
        (at_least, 0, 1, 0x40000000),  # the x32 numbers of x86-64
        (answer, 0, 0, missing),
    ]
    for number in _KEYRINGS[machine]:
        program += [(equal, 0, 1, number), (answer, 0, 0, missing)]
    for number in _SHARED[machine]:
        program += [(equal, 0, 1, number), (answer, 0, 0, refuse)]
    program += [
        (equal, 0, 8, _PRLIMIT[machine]),
        (load, 0, 0, 16),  # whose limit: 0 is its own
        (equal, 5, 0, 0),
        (load, 0, 0, 32),  # the new limit, a pointer in two halves: none is only a question
        (equal, 0, 2, 0),
        (load, 0, 0, 36),
        (equal, 1, 0, 0),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    ]
    program += [
        (equal, 0, 4, _SETPRIORITY[machine]),
        (load, 0, 0, 24),  # whose
        (equal, 1, 0, 0),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    ]
    if not network:
        program += [
            (equal, 0, 1, _IO_URING_SETUP),
            (answer, 0, 0, missing),
            (equal, 0, 3, _SOCKET[machine]),
            (load, 0, 0, 16),
            (equal, 1, 0, socket.AF_UNIX),
            (answer, 0, 0, refuse),
        ]
    program.append((answer, 0, 0, allow))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    kept = ctypes.create_string_buffer(header)
    if _prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(kept)):
        raise OSError("prctl(PR_SET_SECCOMP) failed")


def _check(*, network: bool) -> None:
    """Try what must not work."""
    try:
        os.close(os.open("/proc/self/oom_score_adj", os.O_WRONLY))
    except OSError:
        pass
    else:
        raise OSError("Landlock took the rules, but does not follow them")
    if not network:
        _check_network()


def _check_network() -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except PermissionError:
        return
    raise OSError("the system call filter was taken, but does not work")


def keep_abstract_sockets_inside() -> None:
    """Let nothing that is started from here connect to abstract sockets of others, and check that it has no network.

    For a sandbox that shares the machine's network and has its filter already. Before Linux 6.12 (ABI 6) the kernel
    offers nothing for these sockets.
    """
    if version() >= 6:
        attributes = struct.pack("QQQ", 0, 0, _SCOPES)
        ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
        _call(_RESTRICT_SELF, ruleset, 0)
        os.close(ruleset)
    _check_network()


def drop(*, network: bool, user: int, group: int) -> None:
    """Give up privileges and, without `network`, all but local sockets; files are not protected."""
    machine = os.uname().machine
    if machine not in _AUDIT_ARCH:
        raise OSError(f"no system call filter for {machine}")
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        raise OSError("prctl(PR_SET_NO_NEW_PRIVS) failed")
    if os.geteuid() == 0:
        _drop_capabilities(machine, user, group)
    _filter_calls(machine, network=network)
    if not network:
        _check_network()
