"""The kinds of sandbox from the strongest to none, with their letters, and what each weaker one lacks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

Floor: TypeAlias = Literal["bubblewrap", "landlock", "container"]


class Rung(NamedTuple):
    """One kind: its letter, its name for people, the tier that starts it, and what it lacks, in half a sentence."""

    letter: str
    name: str
    tier: str
    lacks: str = ""


RUNGS = (
    Rung("A", "bubblewrap", "bubblewrap"),
    Rung(
        "B", "bubblewrap with the machine's /proc", "machine-proc", "command lines of other processes can be read in it"
    ),
    Rung(
        "C",
        "bubblewrap with the machine's network",
        "shared-network",
        "a system call filter alone keeps commands off the network, so they cannot use localhost either",
    ),
    Rung(
        "D",
        "Landlock",
        "landlock",
        "hooks and settings of git are put back only when a command has ended, permissions of files outside can be"
        " changed, and local sockets be connected to",
    ),
    Rung(
        "E",
        "the container alone",
        "container",
        "all files of the container can be read and written, and only the network and privileges are taken away",
    ),
    Rung("F", "no sandbox", "none", "commands run with your own rights"),
)
_FLOORS: dict[Floor, int] = {"bubblewrap": 2, "landlock": 3, "container": 4}
_MARKS = ("/.dockerenv", "/run/.containerenv")
_VARIABLES = (b"container=", b"KUBERNETES_SERVICE_HOST=")


def rung(letter: str) -> Rung:
    """Return the kind of that letter."""
    return next(one for one in RUNGS if one.letter == letter)


def tiers_down_to(floor: Floor) -> tuple[str, ...]:
    """Return the tiers that may be tried, the strongest first; the one of A takes B where A is not to be had."""
    return tuple(one.tier for one in RUNGS[: _FLOORS[floor] + 1] if one.letter != "B")


def in_container() -> bool:
    """Return whether this is a container, as far as Docker, podman, Kubernetes, systemd-nspawn and LXC say so."""
    if any(Path(mark).exists() for mark in _MARKS):
        return True
    first = b"\0".join(f"{name}={value}".encode() for name, value in os.environ.items())
    with contextlib.suppress(OSError):
        first += b"\0" + Path("/proc/1/environ").read_bytes()
    return any(entry.startswith(_VARIABLES) for entry in first.split(b"\0"))
