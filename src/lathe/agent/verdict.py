"""What can be decided about a wish, and what it is decided from."""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple, TypeAlias

from lathe.agent.rules import Rules
from lathe.config.settings import ApprovalMode
from lathe.sandbox.policy import RUNS_LATER, SandboxPolicy

NO_WORKAROUND = "Do not work around this; go on without it, or say in the end what is missing."

Family: TypeAlias = tuple[str, ...]
Grant: TypeAlias = tuple[str, ...]
"""What a person granted for this session; the first word says of what kind it is."""


class Allow(NamedTuple):
    """It may be done; with `escalated` outside the sandbox."""

    escalated: bool = False


class MustAsk(NamedTuple):
    """A person must say yes. `families` is what "don't ask again" would allow, `grants` what "this session" would."""

    question: str
    reason: str = ""
    families: tuple[Family, ...] = ()
    grants: tuple[Grant, ...] = ()
    escalated: bool = False


class Forbid(NamedTuple):
    """It must not be done; `reason` is a sentence for the model."""

    reason: str


Verdict: TypeAlias = Allow | MustAsk | Forbid


class Place(NamedTuple):
    """Where a command runs: its folder, the writable roots, and whether it changes its folder on the way.

    `guarded` are names of what commands may not write in the roots.
    """

    cwd: str
    roots: tuple[str, ...]
    moved: bool = False
    guarded: tuple[str, ...] = RUNS_LATER

    def holds(self, path: str) -> bool:
        """Tell whether `path` lies strictly inside a writable root, links followed."""
        if self.moved and not path.startswith(("/", "~")):
            return False
        real = os.path.realpath(os.path.join(self.cwd, os.path.expanduser(path)))  # noqa: PTH111, PTH118
        return any(real.startswith(os.path.realpath(root).rstrip("/") + "/") for root in self.roots)


class AtRisk(NamedTuple):
    """Files, by absolute path, that no command may do away with unasked.

    `edited` are those that the person has changed since the thread began, `unkept` those that could not be put back;
    `removed` are those that the person has removed, which nothing may bring back unasked.
    """

    edited: tuple[str, ...] = ()
    unkept: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Stance(NamedTuple):
    """All that a decision is made from beside the wish."""

    approve: ApprovalMode
    policy: SandboxPolicy
    rules: Rules
    cwd: Path
    granted: Set[Grant]
    risk: AtRisk = AtRisk()
