"""What a command may do, as data."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

SandboxMode: TypeAlias = Literal["read-only", "workspace-write", "danger-full-access"]


class SandboxPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """A policy; paths are absolute. `writable_roots` counts in `workspace-write` mode, beside a private /tmp.

    `network` is that of the machine; without it, `hosts` are the rules for what may be reached (`destinations.py`).
    """

    mode: SandboxMode = "workspace-write"
    writable_roots: tuple[str, ...] = ()
    network: bool = False
    hosts: tuple[str, ...] = ()

    @property
    def reaches_out(self) -> bool:
        """Whether commands can reach anything beyond this machine without being asked about."""
        return self.network or bool(self.hosts)
