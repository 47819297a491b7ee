"""Makes the network of a session sandbox: every way out of it ends at one listener.

A program of its own, run by `python -I -S -E` outside the sandbox, once per session. It enters the sandbox's network
namespace (its owner may), declares every address local there, leads what connects to one of them to a listener, and
hands the listener to Lathe, which decides and dials (`egress.py`). Nothing of Lathe is imported here.

Facts: namespaces(7), ioctl_ns(2), rtnetlink(7), linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import _socket
import posix
import sys

_REQUEST, _ACK, _CREATE = 1, 4, 0x400
_NETLINK_ROUTE, _NETLINK_SOCK_DIAG, _NETLINK_NETFILTER = 0, 4, 12
_NEW_ROUTE, _BATCH_BEGIN, _BATCH_END = 24, 0x10, 0x11
_NFTABLES = 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 3, 6
_NESTED = 0x8000
_REGISTER = 1  # a data register of nftables
_LOOPBACK = 1
_BACKLOG = 128
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_NS_GET_USERNS = 0xB701


def main(link: int, pid: int, ports: list[int], *, redirect: bool) -> None:
    """Make the network of process `pid`'s namespace and send its descriptors through `link`; raise OSError.

    They are: a netlink socket that tells whose a connection is, the socket that names are asked of, and listeners: one
    for all ports, or where the kernel has no redirection, or it is not to be used, one for each of `ports`.
    """
    _enter(pid)
    _every_address_is_here()
    names = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    one = _listen("127.0.0.1", 0)
    listeners = [one]
    if not (redirect and _redirect(one.getsockname()[1])):
        listeners = [_listen("0.0.0.0", port) for port in ports]
    diagnosis = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    fds = [each.fileno() for each in (diagnosis, names, *listeners)]
    rights = b"".join(_number(fd, 4) for fd in fds)
    _socket.socket(fileno=link).sendmsg([b"N"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])


def _enter(pid: int) -> None:
    """Go into the network namespace of a process, by way of the user namespace that owns it."""
    import _ctypes  # the whole of ctypes would cost three times this
    import fcntl

    network = posix.open(f"/proc/{pid}/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
    owner = fcntl.ioctl(network, _NS_GET_USERNS)
    setns = _ctypes.dlsym(_ctypes.dlopen("", 2), "setns")
    inside = posix.fstat(owner).st_ino != posix.stat("/proc/self/ns/user").st_ino
    for namespace, kind in ((owner, _CLONE_NEWUSER if inside else 0), (network, _CLONE_NEWNET)):
        if kind and _ctypes.call_function(setns, (namespace, kind)):
            raise OSError("the network namespace of the sandbox cannot be entered")


def _listen(host: str, port: int) -> _socket.socket:
    one = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    one.bind((host, port))
    one.listen(_BACKLOG)
    return one


def _number(value: int, size: int) -> bytes:
    return value.to_bytes(size, sys.byteorder)


def _attribute(kind: int, *parts: bytes) -> bytes:
    """Return one netlink attribute; of several parts, or of parts that are attributes themselves."""
    data = b"".join(parts)
    return _number(4 + len(data), 2) + _number(kind, 2) + data + bytes(-len(data) % 4)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    head = _number(16 + len(body), 4) + _number(kind, 2) + _number(_REQUEST | flags, 2)
    return head + _number(1, 4) + bytes(4) + body


def _ask(protocol: int, messages: list[bytes], answers: int) -> None:
    """Send messages to the kernel; raise OSError for the first error among its answers."""
    link = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, protocol)
    try:
        link.settimeout(5)  # the kernel answers at once
        link.bind((0, 0))
        link.send(b"".join(messages))
        while answers:
            data = link.recv(65536)
            while len(data) >= 20:
                size = max(int.from_bytes(data[:4], sys.byteorder), 16)
                error = -int.from_bytes(data[16:20], sys.byteorder, signed=True)
                if error:
                    raise OSError(error, posix.strerror(error))
                data = data[size + -size % 4 :]
                answers -= 1
    finally:
        link.close()


def _every_address_is_here() -> None:
    """Make each address of IPv4 one of this namespace's own: a packet to anywhere arrives here."""
    local_table, static, host_scope, local = 255, 4, 254, 2
    route = bytes([_socket.AF_INET, 0, 0, 0, local_table, static, host_scope, local]) + bytes(4)
    body = route + _attribute(4, _number(_LOOPBACK, 4))
    _ask(_NETLINK_ROUTE, [_message(_NEW_ROUTE, _ACK | _CREATE, body)], 1)


def _redirect(port: int) -> bool:
    """Lead each connection that leaves for another address than a loopback one to `port`, if the kernel can."""
    name = b"lathe\0"
    output, before_others, tcp, equal, unequal = 3, -100, 6, 0, 1
    hook = _attribute(1, output.to_bytes(4, "big")) + _attribute(2, before_others.to_bytes(4, "big", signed=True))
    chain = _attribute(1, name) + _attribute(3, b"out\0") + _attribute(4 | _NESTED, hook) + _attribute(7, b"nat\0")
    rule = [
        _expression(b"meta", _attribute(1, _big(_REGISTER)), _attribute(2, _big(16))),  # the protocol above IP
        _compare(equal, bytes([tcp])),
        _expression(  # the address it goes to, of which the first byte
            b"payload",
            *(_attribute(1 + index, _big(value)) for index, value in enumerate((_REGISTER, 1, 16, 1))),
        ),
        _compare(unequal, bytes([127])),
        _expression(b"immediate", _attribute(1, _big(_REGISTER)), _data(2, port.to_bytes(2, "big"))),
        _expression(b"redir", _attribute(1, _big(_REGISTER))),
    ]
    steps = b"".join(_attribute(1 | _NESTED, expression) for expression in rule)
    body = _attribute(1, name) + _attribute(2, b"out\0") + _attribute(4 | _NESTED, steps)
    messages = [
        _message(_BATCH_BEGIN, 0, _nftables(0, _NFTABLES)),
        _table_message(_NEW_TABLE, _attribute(1, name)),
        _table_message(_NEW_CHAIN, chain),
        _table_message(_NEW_RULE, body),
        _message(_BATCH_END, 0, _nftables(0, _NFTABLES)),
    ]
    try:
        _ask(_NETLINK_NETFILTER, messages, 3)
    except OSError:
        return False
    return True


def _nftables(family: int, resource: int = 0) -> bytes:
    return bytes([family, 0]) + resource.to_bytes(2, "big")


def _table_message(kind: int, body: bytes) -> bytes:
    return _message(_NFTABLES << 8 | kind, _ACK | _CREATE, _nftables(_socket.AF_INET) + body)


def _big(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _data(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, _attribute(1, value))


def _expression(name: bytes, *attributes: bytes) -> bytes:
    return _attribute(1, name + b"\0") + _attribute(2 | _NESTED, *attributes)


def _compare(how: int, value: bytes) -> bytes:
    return _expression(b"cmp", _attribute(1, _big(_REGISTER)), _attribute(2, _big(how)), _data(3, value))
