"""What a command may do, as data."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

SandboxMode: TypeAlias = Literal["read-only", "workspace-write", "danger-full-access"]

RUNS_LATER = (".git", ".lathe")
"""Folders and files in a workspace whose content runs, or allows things, outside the sandbox later."""


class PathRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds for single paths: absolute patterns, in which `*`, `?` and `**` are wildcards.

    `write` may be written, `read` is seen and only read, `protect` is only read where it is seen at all, `hide` is not
    seen. `veiled` are names of files (with `*`; a leading `!` excepts) that are hidden in the writable roots unless git
    keeps them, `guarded` names of files and folders there that commands only read.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    veiled: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()


class SandboxPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """A policy; paths are absolute. `writable_roots` counts in `workspace-write` mode, beside a private /tmp.

    `network` is that of the machine; without it, `hosts` are the rules for what may be reached (`destinations.py`).
    """

    mode: SandboxMode = "workspace-write"
    writable_roots: tuple[str, ...] = ()
    network: bool = False
    hosts: tuple[str, ...] = ()
    paths: PathRules = PathRules()

    @property
    def reaches_out(self) -> bool:
        """Whether commands can reach anything beyond this machine without being asked about."""
        return self.network or bool(self.hosts)


def without_veils(policy: SandboxPolicy) -> SandboxPolicy:
    """Return the policy without what is hidden by its name alone, for what cannot hide below a writable folder."""
    return msgspec.structs.replace(policy, paths=msgspec.structs.replace(policy.paths, veiled=()))
