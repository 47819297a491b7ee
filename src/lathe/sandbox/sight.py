"""What a policy says of a path on this side of the sandbox: for the tools that read and write files themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable

from lathe.sandbox.mounts import credentials, is_below
from lathe.sandbox.paths import SEEING, WRITING, Rule, rules_of, strongest
from lathe.sandbox.policy import RUNS_LATER, SandboxPolicy
from lathe.sandbox.survey import is_veiled_name, tracked


class Sight:
    """What commands under a policy see and may write, as the rules say it.

    Unlike in the sandbox, where mounts are made once, the rules hold for files that are made later too.
    """

    def __init__(self, policy: SandboxPolicy) -> None:
        self._policy = policy
        self._rules = rules_of(policy)
        built_in = (Rule("hide", os.path.realpath(path), stated=False) for path in credentials())
        self._seeing = (*self._rules, *built_in)
        self._roots = tuple(os.path.realpath(root) for root in policy.writable_roots)

    def hides(self, path: str) -> bool:
        """Tell whether a path is not seen, links followed."""
        if self._policy.mode == "danger-full-access":
            return False
        real = os.path.realpath(path)
        rule = strongest(self._seeing, real, SEEING)
        if rule is not None and (rule.kind == "hide" or rule.holds_for(real)):
            return rule.kind == "hide"
        veiled = self._policy.paths.veiled
        name = os.path.basename(real)  # noqa: PTH119
        return bool(
            is_veiled_name(name, veiled) and any(is_below(real, root) for root in self._roots) and not tracked([real])
        )

    def refusal(self, path: str) -> str:
        """Return why a path may not be written, as a sentence with what would allow it; "" where it may."""
        if self._policy.mode == "danger-full-access":
            return ""
        if self._policy.mode == "read-only":
            return "The sandbox is read-only."
        real = os.path.realpath(path)
        opened = f'paths.write = ["{path}"] would open it.'
        if self.hides(real):
            return f"It is hidden from commands; {opened}"
        rule = strongest(self._rules, real, WRITING)
        if rule is None:
            return f"It lies outside what may be written; {opened}"
        if rule.kind != "write":
            return "The settings in [paths] say that it is only read."
        return self._guarded(real, opened, named=not rule.rest and rule.base == real)

    def _guarded(self, real: str, opened: str, *, named: bool) -> str:
        if is_guarded(real, self._roots):
            return "It is of git or of Lathe: what lies there may run later, outside the sandbox."
        if not named and is_guarded(real, self._roots, self._policy.paths.guarded):
            return f"Agents take it for instructions; {opened}"
        return ""


def is_guarded(path: str, roots: Iterable[str], names: Iterable[str] = RUNS_LATER) -> bool:
    """Tell whether a path (links followed) lies in a root and there is, or is in, something of one of the names."""
    real = os.path.realpath(path)
    for root in map(os.path.realpath, roots):
        if is_below(real, root):
            inner = f"/{os.path.relpath(real, root)}/".casefold()
            if any(f"/{name}/".casefold() in inner for name in names):
                return True
    return False
