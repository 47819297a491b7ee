"""Which tiers work on this machine, and what would make the others work."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

from lathe.protocol.errors import ConfigError
from lathe.sandbox.bubblewrap import find_program
from lathe.sandbox.ladder import RUNGS, Rung, in_container
from lathe.sandbox.limits import Limits
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner


class TierReport(NamedTuple):
    """A kind of sandbox; whether it works here; how it was seen, or why not; and what to do about that.

    `driver` is what held limits in it, `missing` which limits nothing holds.
    """

    rung: Rung
    works: bool
    reason: str
    fix: str = ""
    driver: str = ""
    missing: tuple[str, ...] = ()


_SWITCHES = (
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "install the distribution's own bubblewrap package with its AppArmor profile, or"
        " sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


def probe(limits: Limits) -> list[TierReport]:
    """Return a report of each kind, strongest first, each tried by running a command in it under `limits`."""
    reports: list[TierReport] = []

    def work() -> None:
        reports.extend(asyncio.run(_probe(limits)))

    # in a thread of its own, so that it can be called from a running event loop too
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return reports


async def _probe(limits: Limits) -> list[TierReport]:
    reports = [await _try(rung, limits) for rung in RUNGS[:-1]]
    return [*reports, TierReport(RUNGS[-1], True, "Only where you ask for it: --sandbox danger-full-access.")]


async def _try(rung: Rung, limits: Limits) -> TierReport:
    with tempfile.TemporaryDirectory(prefix="lathe-probe-", ignore_cleanup_errors=True) as folder:
        policy = SandboxPolicy(writable_roots=(folder,))
        env = {"PATH": os.defpath}
        runner = Runner(policy, cwd=Path(folder), env=env, tiers=(rung.tier,), limits=limits)
        written: list[bytes] = []
        try:
            process = await runner.spawn(["/bin/sh", "-c", ": > inside"], cwd=folder, on_output=written.append)
            status = await process.wait()
            driver, missing = (runner.controls.driver, runner.controls.missing) if runner.controls else ("", ())
        except ConfigError as error:
            return TierReport(rung, False, error.message, fix(rung.letter))
        finally:
            await runner.aclose()
        if status or not Path(folder, "inside").exists():
            said = b"".join(written).decode("utf-8", "replace").strip()
            reason = f"A command in it failed: {said or f'exit status {status}'}."
            return TierReport(rung, False, reason, fix(rung.letter))
    if runner.letter != rung.letter:
        return TierReport(rung, False, "No /proc of its own can be mounted here.", fix(rung.letter))
    lacks = f"; {rung.lacks}" if rung.lacks else ", and wrote only where it may"
    return TierReport(rung, True, f"A command ran in it{lacks}.", driver=driver, missing=missing)


def fix(letter: str) -> str:
    """Return what would make the kind of that letter work here, in a sentence."""
    if letter == "E":
        return 'It is for containers where nothing else works, and only with sandbox_floor = "container".'
    if letter == "A" and find_program() is not None and in_container():
        return "In a container, a /proc of its own needs --security-opt unmask=ALL (podman) or systempaths=unconfined."
    if letter == "D":
        return "Landlock needs Linux 6.2 or later with landlock among the kernel's lsm=, and x86-64 or arm64."
    for switch, bad, fix in _SWITCHES:
        try:
            value = Path("/proc/sys", switch).read_text().strip()
        except OSError:
            continue
        if value == bad:
            return f"The kernel forbids user namespaces here: {fix}."
    if in_container():
        return "In a container, user namespaces need --security-opt seccomp=unconfined (Docker) or a wider profile."
    return "Install bubblewrap: apt-get install bubblewrap, dnf install bubblewrap, or pacman -S bubblewrap."
