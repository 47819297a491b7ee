"""Lays Lathe's way out into the network of a container; a program of its own, for it changes its namespace for good."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from lathe.evals.environments import kernel
from lathe.sandbox import netns


def main(given: Sequence[str]) -> None:
    """Send listeners for doors, and the descriptors of `netns.py`, to the socket; given are it, a process and ports."""
    fd, pid = int(given[0]), int(given[1])
    doors, ports = ([int(port) for port in each.split(",") if port] for each in given[2:4])
    if doors:
        send_doors(fd, os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC), doors)
    if ports:
        netns.main(os.dup(fd), pid, ports, redirect=True)


def send_doors(fd: int, namespace: int, ports: Sequence[int]) -> None:
    """Enter a network namespace, listen on these ports of its 127.0.0.1, and send the listeners."""
    kernel.setns(namespace, kernel.NEWNET)
    doors = []
    for port in ports:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", port))
        one.listen(128)
        doors.append(one)
    socket.send_fds(socket.socket(fileno=os.dup(fd)), [b"D"], [one.fileno() for one in doors])
