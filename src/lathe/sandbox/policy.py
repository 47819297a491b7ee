"""What a command may do, as data."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

SandboxMode: TypeAlias = Literal["read-only", "workspace-write", "danger-full-access"]


class SandboxPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """A policy; paths are absolute. `writable_roots` counts in `workspace-write` mode, beside a private /tmp."""

    mode: SandboxMode = "workspace-write"
    writable_roots: tuple[str, ...] = ()
    network: bool = False
