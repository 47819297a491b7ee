"""Attempts to get out of the sandbox: small programs that read, write, reach or signal what they must not.

Each gets in its environment where things are: OUT is a folder outside the workspace (with `secret`, `target`, and the
home folder), VICTIM the number of a process outside, TCP4, TCP6 and UDP ports, ABSTRACT and the others local sockets. An
attempt has got out when the token is in its output, when something outside the workspace has changed, when the victim
was touched, or when it prints ESCAPED, which it does only after a system call that must not succeed.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Attempt(NamedTuple):
    """A program, and who can do it without a sandbox: some need root for that."""

    name: str
    script: str
    language: Literal["bash", "python"] = "bash"
    needs_root: bool = False


_SYSCALL = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
out, victim = os.environ["OUT"], int(os.environ["VICTIM"])
def call(number, *args):
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
def escaped(): print("ESCAPED", flush=True)
"""
_SOCKET = """
import os, socket, sys
def ask(family, kind, address, text=b"hello"):
    with socket.socket(family, kind) as one:
        one.settimeout(2)
        one.connect(address)
        one.send(text)
        print(one.recv(100).decode())
"""

WRITES = [
    Attempt("a path outside", 'echo x > "$OUT/mark"'),
    Attempt("a path over the workspace", 'echo x > "../out/mark"; cd ..; echo x > out/mark'),
    Attempt("append", 'echo x >> "$OUT/target"'),
    Attempt("truncate", ': > "$OUT/target"'),
    Attempt("remove", 'rm -f "$OUT/target"'),
    Attempt("move away", 'mv "$OUT/target" ./stolen'),
    Attempt("move in", 'echo x > m; mv m "$OUT/mark"'),
    Attempt("a symbolic link", 'ln -s "$OUT" l; echo x > l/mark'),
    Attempt("a hard link", 'ln "$OUT/target" h && echo x >> h'),
    Attempt("make a folder", 'mkdir "$OUT/mark"'),
    Attempt("make a pipe", 'mkfifo "$OUT/mark"'),
    Attempt("permissions", 'chmod 777 "$OUT/target"'),
    Attempt("times", 'touch -d 2001-01-01 "$OUT/target"'),
    Attempt("extended attributes", 'import os; os.setxattr(os.environ["OUT"] + "/target", "user.x", b"x")', "python"),
    Attempt("through /proc/self/root", 'echo x > "/proc/self/root$OUT/mark"'),
    Attempt("through the root of another process", 'echo x > "/proc/$VICTIM/root$OUT/mark"'),
    Attempt("through the folder of another process", 'echo x > "/proc/$VICTIM/cwd/mark"'),
    Attempt("through inherited descriptors", 'for d in /proc/self/fd/*; do echo x > "$d/mark"; done 2>/dev/null'),
    Attempt("through descriptors of parents", 'for d in /proc/[0-9]*/fd/*; do [ -d "$d" ] && echo x > "$d/mark"; done 2>/dev/null'),
    Attempt(
        "a folder swapped for a link",
        """
import os, threading, time
out = os.environ["OUT"]
os.makedirs("d", exist_ok=True); os.symlink(out, "l")
end = time.monotonic() + 0.4
def swap():
    while time.monotonic() < end:
        for a, b in (("d", "t"), ("l", "d"), ("d", "l"), ("t", "d")):
            try: os.rename(a, b)
            except OSError: pass
threading.Thread(target=swap).start()
while time.monotonic() < end:
    try: open("d/mark", "w").close()
    except OSError: pass
""",
        "python",
    ),
    Attempt("the shell's start-up file", 'echo "touch $OUT/mark" >> "$HOME/.bashrc"'),
    Attempt("authorised keys", 'mkdir -p "$HOME/.ssh" && echo key >> "$HOME/.ssh/authorized_keys"'),
    Attempt("a user service", 'mkdir -p "$HOME/.config/systemd/user" && echo x > "$HOME/.config/systemd/user/x.service"'),
    Attempt("a program in the path", 'mkdir -p "$HOME/bin" && echo x > "$HOME/bin/git"'),
    Attempt("settings of git", 'git config --global core.hooksPath "$PWD"'),
    Attempt("settings of Lathe", 'mkdir -p "$HOME/.config/lathe" && echo x > "$HOME/.config/lathe/config.toml"'),
    Attempt("a module that Python loads", 'mkdir -p "$HOME/.local/lib" && echo x > "$HOME/.local/lib/usercustomize.py"'),
]  # fmt: skip

GIT = [
    Attempt("a hook", "echo '#!/bin/sh' > .git/hooks/post-commit; echo \"touch $OUT/mark\" >> .git/hooks/post-commit; chmod +x .git/hooks/post-commit"),
    Attempt("a hook in a new folder", "mv .git/hooks .git/old; mkdir .git/hooks; printf '#!/bin/sh\\ntouch %s/mark\\n' \"$OUT\" > .git/hooks/post-commit; chmod +x .git/hooks/post-commit"),
    Attempt("a hook in a new repository", "mv .git .old; cp -r .old .git; printf '#!/bin/sh\\ntouch %s/mark\\n' \"$OUT\" > .git/hooks/post-commit; chmod +x .git/hooks/post-commit"),
    Attempt("a file monitor", 'git config core.fsmonitor "touch $OUT/mark; false"'),
    Attempt("another folder of hooks", "mkdir h; printf '#!/bin/sh\\ntouch %s/mark\\n' \"$OUT\" > h/post-commit; chmod +x h/post-commit; git config core.hooksPath h"),
    Attempt("an editor", 'printf "[core]\\n\\teditor = touch $OUT/mark;true\\n" >> .git/config'),
    Attempt("settings of the worktree", 'git config extensions.worktreeConfig true; printf "[core]\\n\\tfsmonitor = touch $OUT/mark; false\\n" > .git/config.worktree'),
    Attempt("a filter", 'git config filter.x.clean "touch $OUT/mark; cat"; echo "* filter=x" > .gitattributes'),
    Attempt("another common folder", "cp -r .git evil; printf '#!/bin/sh\\ntouch %s/mark\\n' \"$OUT\" > evil/hooks/post-commit; chmod +x evil/hooks/post-commit; echo ../evil > .git/commondir"),
    Attempt("a repository behind a link", "mv .git .old; cp -r .old evil; printf '#!/bin/sh\\ntouch %s/mark\\n' \"$OUT\" > evil/hooks/post-commit; chmod +x evil/hooks/post-commit; ln -s evil .git"),
]  # fmt: skip

SECRETS = [
    Attempt("keys of ssh", 'cat "$HOME/.ssh/id_ed25519"'),
    Attempt("keys of a cloud", 'cat "$HOME/.aws/credentials"'),
    Attempt("passwords of hosts", 'cat "$HOME/.netrc"'),
    Attempt("the history of the shell", 'cat "$HOME/.bash_history"'),
    Attempt("what Lathe keeps", 'cat "$LATHE_STATE/threads/x.jsonl"'),
    Attempt("the environment of Lathe", "env; cat /proc/$PPID/environ /proc/$LATHE/environ | tr '\\0' '\\n'"),
    Attempt("keys through another root", 'cat "/proc/$VICTIM/root$HOME/.ssh/id_ed25519"'),
    Attempt("keys through a remount", 'umount "$HOME/.ssh" 2>/dev/null; cat "$HOME/.ssh/id_ed25519"'),
    Attempt("keys through a namespace", 'unshare -Urm bash -c "umount $HOME/.ssh; cat $HOME/.ssh/id_ed25519"'),
    Attempt("another's files in /tmp", 'cat "$TEMPORARY"'),
    Attempt("another's files in /dev/shm", 'cat "$SHARED"'),
    Attempt(
        "a key of the kernel's ring",
        _SYSCALL
        + """
name = os.environ["KEY"].encode()
found = call(249, b"user", name, None, 0)  # request_key
KEYCTL_SEARCH, KEYCTL_READ, USER = 10, 11, -4
key = call(250, KEYCTL_SEARCH, USER, b"user", name, 0)
buffer = ctypes.create_string_buffer(100)
if max(key, found) > 0 and call(250, KEYCTL_READ, max(key, found), buffer, 100) > 0: print(buffer.value.decode())
""",
        "python",
    ),
    Attempt(
        "shared memory",
        _SYSCALL
        + """
libc.shmat.restype = ctypes.c_void_p
number = libc.shmget(int(os.environ["SHM"]), 0, 0)
at = libc.shmat(number, None, 0o10000)
if number >= 0 and at not in (None, ctypes.c_void_p(-1).value): print(ctypes.string_at(at, 60).split(b"\\0")[0].decode())
""",
        "python",
    ),
]  # fmt: skip

PROCESSES = [
    Attempt("a signal", 'kill -USR1 "$VICTIM"'),
    Attempt("a signal to the group", 'kill -USR1 -- "-$VICTIM"'),
    Attempt("the environment of another", "tr '\\0' '\\n' < /proc/$VICTIM/environ"),
    Attempt(
        "trace another",
        _SYSCALL + "\nif call(101, 16, victim, 0, 0) == 0: escaped(); call(101, 17, victim, 0, 0)",
        "python",
    ),
    Attempt(
        "seize another",
        _SYSCALL + "\nif call(101, 0x4206, victim, 0, 0) == 0: escaped()",
        "python",
    ),
    Attempt(
        "memory of another",
        """
import os
victim = os.environ["VICTIM"]
for line in open(f"/proc/{victim}/maps"):
    if "[stack]" in line:
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        with open(f"/proc/{victim}/mem", "rb") as memory:
            memory.seek(start)
            print(memory.read(end - start).replace(b"\\0", b"\\n").decode("latin-1"))
""",
        "python",
    ),
    Attempt(
        "a descriptor of another",
        _SYSCALL
        + """
handle = call(434, victim, 0)
for number in range(3, 12):
    got = call(438, handle, number, 0)
    if got >= 0: print(os.pread(got, 100, 0).decode(errors="replace"))
""",
        "python",
    ),
    Attempt("limits of another", _SYSCALL + "\nif call(302, victim, 7, struct.pack('QQ', 100, 100), None) == 0: escaped()", "python"),
    Attempt("priority of another", "import os; p = int(os.environ['VICTIM']); os.setpriority(os.PRIO_PROCESS, p, 5); print('ESCAPED')", "python"),
    Attempt("namespaces of another", 'nsenter -t "$VICTIM" -m -- touch "$OUT/mark"', needs_root=True),
    Attempt(
        "a daemon that stays",
        'setsid bash -c "sleep 1; touch stayed" >/dev/null 2>&1 & disown; (setsid nohup bash -c "sleep 1; touch stayed" >/dev/null 2>&1 &)',
    ),
]  # fmt: skip

KERNEL = [
    Attempt("remount", 'mount -o remount,rw,bind / && touch "$OUT/mark"; mount -o remount,bind,rw "$OUT" && touch "$OUT/mark"; touch "$OUT/mark"'),
    Attempt("a mount over it", 'mkdir m; mount --bind "$OUT" m && touch m/mark', needs_root=True),
    Attempt("a namespace of its own", 'unshare -Urm bash -c "mount -o remount,rw,bind / ; mount --bind $OUT /mnt; touch /mnt/mark $OUT/mark"'),
    Attempt("a namespace within one", 'unshare -Urm unshare -Urm bash -c "mount -o remount,rw,bind /; touch $OUT/mark"'),
    Attempt("attributes of a mount", _SYSCALL + """
attributes = struct.pack("QQQQ", 0, 1, 0, 0)
call(442, -100, out.encode(), 0x8000, attributes, len(attributes))
call(442, -100, b"/", 0x8000, attributes, len(attributes))
open(out + "/mark", "w").close()
""", "python"),
    Attempt("a detached tree", _SYSCALL + """
tree = call(428, -100, out.encode(), 1 | 0x80000)
attributes = struct.pack("QQQQ", 0, 1, 0, 0)
if tree >= 0:
    call(442, tree, b"", 0x1000, attributes, len(attributes))
    os.close(os.open("mark", os.O_CREAT | os.O_WRONLY, dir_fd=tree))
""", "python", needs_root=True),
    Attempt("a file by its handle", _SYSCALL + """
handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
mount = ctypes.c_int()
call(303, -100, (out + "/target").encode(), handle, ctypes.byref(mount), 0)
at = os.open(out, os.O_RDONLY)
got = call(304, at, handle, os.O_WRONLY)
if got >= 0: os.write(got, b"by handle")
""", "python", needs_root=True),
    Attempt("another root", 'chroot "/proc/$VICTIM/root" touch "$OUT/mark"', needs_root=True),
    Attempt("a set-user-id program", '"$SUID" -p -c "id -u; touch $ROOTS/mark"'),
    Attempt("a setting of the kernel", 'v=$(cat /proc/sys/kernel/core_pattern); echo "$v" > /proc/sys/kernel/core_pattern && echo ESCAPED', needs_root=True),
    Attempt("a control group", "for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mkdir $d/lathe-escape 2>/dev/null && rmdir $d/lathe-escape && echo ESCAPED; done", needs_root=True),
    Attempt("a device", "mknod d c 1 3 && echo ESCAPED", needs_root=True),
    Attempt("a program for the kernel", _SYSCALL + """
code = struct.pack("BBhi", 0xB7, 0, 0, 0) + struct.pack("BBhi", 0x95, 0, 0, 0)
text, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
attributes = struct.pack("IIQQ", 1, 2, ctypes.addressof(text), ctypes.addressof(licence)) + bytes(100)
if call(321, 5, attributes, len(attributes)) >= 0: escaped()
""", "python", needs_root=True),
    Attempt("a ring that opens files", _SYSCALL + """
import mmap
parameters = ctypes.create_string_buffer(120)
ring = call(425, 4, parameters)
if ring >= 0:
    words = struct.unpack_from("IIIIIII", parameters, 0)
    sq, cq = struct.unpack_from("8I", parameters, 40), struct.unpack_from("8I", parameters, 80)
    rings = mmap.mmap(ring, max(sq[6] + words[0] * 4, cq[5] + words[1] * 16), offset=0)
    entries = mmap.mmap(ring, words[0] * 64, offset=0x10000000)
    path = ctypes.create_string_buffer((out + "/mark").encode())
    struct.pack_into("BBHiQQIIQ", entries, 0, 18, 0, 0, -100, 0, ctypes.addressof(path), 0o666, os.O_CREAT | os.O_WRONLY, 7)
    struct.pack_into("I", rings, sq[6], 0)
    struct.pack_into("I", rings, sq[1], struct.unpack_from("I", rings, sq[1])[0] + 1)
    call(426, ring, 1, 1, 1, None, 0)
""", "python"),
]  # fmt: skip

NETWORK = [
    Attempt("TCP", _SOCKET + 'ask(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(os.environ["TCP4"])))', "python"),
    Attempt("TCP by IPv6", _SOCKET + 'ask(socket.AF_INET6, socket.SOCK_STREAM, ("::1", int(os.environ["TCP6"])))', "python"),
    Attempt("UDP", _SOCKET + 'ask(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", int(os.environ["UDP"])))', "python"),
    Attempt("the shell's own TCP", 'exec 3<>"/dev/tcp/127.0.0.1/$TCP4"; echo hello >&3; head -c 40 <&3'),
    Attempt("the network of another", 'nsenter -t "$VICTIM" -n bash -c "exec 3<>/dev/tcp/127.0.0.1/$TCP4; echo hello >&3; head -c 40 <&3"', needs_root=True),
    Attempt("raw IP", _SOCKET + 'one = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); one.sendto(b"\\x08\\0\\xf7\\xff\\0\\0\\0\\0", ("127.0.0.1", 0)); print("ESCAPED")', "python", needs_root=True),
    Attempt("packets", _SOCKET + 'one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); one.bind(("lo", 0)); print("ESCAPED")', "python", needs_root=True),
    Attempt("an abstract socket", _SOCKET + 'ask(socket.AF_UNIX, socket.SOCK_STREAM, "\\0" + os.environ["ABSTRACT"])', "python"),
    Attempt("a socket in a folder", _SOCKET + 'ask(socket.AF_UNIX, socket.SOCK_STREAM, os.environ["PATHNAME"])', "python"),
    Attempt("a socket in /tmp", _SOCKET + 'ask(socket.AF_UNIX, socket.SOCK_STREAM, os.environ["XSOCKET"])', "python"),
    Attempt("a socket in /run", _SOCKET + 'ask(socket.AF_UNIX, socket.SOCK_STREAM, os.environ["BUS"])', "python", needs_root=True),
    Attempt("datagrams to a local socket", _SOCKET + """
one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
one.sendto(b"hello", os.environ["DATAGRAMS"])
""", "python"),
]  # fmt: skip

_OUTWARD = (
    _SOCKET
    + """
here, port, datagrams = os.environ["HERE"], int(os.environ["HERE_TCP"]), int(os.environ["HERE_UDP"])
"""
)
EGRESS = [
    Attempt("an address instead of a name", _OUTWARD + "ask(socket.AF_INET, socket.SOCK_STREAM, (here, port))", "python"),
    Attempt("an address of IPv4 within IPv6", _OUTWARD + 'ask(socket.AF_INET6, socket.SOCK_STREAM, ("::ffff:" + here, port))', "python"),
    Attempt("an address spelt as a number", _OUTWARD + "ask(socket.AF_INET, socket.SOCK_STREAM, (str(int.from_bytes(socket.inet_aton(here), 'big')), port))", "python"),
    Attempt("datagrams to an address", _OUTWARD + "ask(socket.AF_INET, socket.SOCK_DGRAM, (here, datagrams))", "python"),
    Attempt("data with the first packet", _OUTWARD + """
with socket.socket() as one:
    one.sendto(b"hello", 0x20000000, (here, port))  # MSG_FASTOPEN
    print(one.recv(100).decode())
""", "python"),
    Attempt("several paths", _OUTWARD + """
with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as one:  # MPTCP
    one.settimeout(2)
    one.connect((here, port))
    one.send(b"hello")
    print(one.recv(100).decode())
""", "python"),
    Attempt("whatever listens, as a proxy", _OUTWARD + """
for line in open("/proc/net/tcp").read().splitlines()[1:]:
    local, state = line.split()[1], line.split()[3]
    if state != "0A": continue
    with socket.socket() as one:
        one.settimeout(1)
        try:
            one.connect(("127.0.0.1", int(local.split(":")[1], 16)))
            one.send(f"CONNECT {here}:{port} HTTP/1.1\\r\\nHost: {here}:{port}\\r\\n\\r\\nhello".encode())
            print(one.recv(300).decode(errors="replace"))
        except OSError: pass
""", "python"),
    Attempt("a network namespace and back", _OUTWARD + """
os.system("unshare -Urn true")
ask(socket.AF_INET, socket.SOCK_STREAM, (here, port))
""", "python"),
]  # fmt: skip

ATTEMPTS: dict[str, list[Attempt]] = {
    "files": WRITES,
    "git": GIT,
    "secrets": SECRETS,
    "processes": PROCESSES,
    "kernel": KERNEL,
    "network": NETWORK,
    "egress": EGRESS,
}
