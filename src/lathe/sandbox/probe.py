"""Which tiers work on this machine, and what would make the others work."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

from lathe.sandbox.bubblewrap import find_program
from lathe.sandbox.ladder import RUNGS, Rung, in_container
from lathe.sandbox.limits import Limits
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner
from lathe.sandbox.tiers import NoTierWorks


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
    reports.append(TierReport(RUNGS[-1], True, "Only where you ask for it: --sandbox danger-full-access."))
    best = next(report.rung.letter for report in reports if report.works)
    return [report if report.works else report._replace(fix=fix(report.rung.letter, best)) for report in reports]


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
        except NoTierWorks as error:
            return TierReport(rung, False, f"It does not start: {error.reasons[rung.tier]}.")
        finally:
            await runner.aclose()
        if status or not Path(folder, "inside").exists():
            said = b"".join(written).decode("utf-8", "replace").strip()
            reason = f"A command in it failed: {said or f'exit status {status}'}."
            return TierReport(rung, False, reason)
    if runner.letter != rung.letter:
        return TierReport(rung, False, "No /proc of its own can be mounted here.")
    lacks = f"; {rung.lacks}" if rung.lacks else ", and wrote only where it may"
    return TierReport(rung, True, f"A command ran in it{lacks}.", driver=driver, missing=missing)


def fix(letter: str, best: str) -> str:
    """Return what would make the kind of that letter work here, in a sentence; `best` is the best that does."""
    if letter == "E":
        return 'It is for containers where nothing else works, and only with sandbox_floor = "container".'
    if letter == "D":
        return "Landlock needs Linux 6.2 or later with landlock among the kernel's lsm=, and x86-64 or arm64."
    if find_program() is None:
        return "Install bubblewrap: apt-get install bubblewrap, dnf install bubblewrap, or pacman -S bubblewrap."
    if letter == "A" and best == "B":
        return "A /proc of its own needs --security-opt systempaths=unconfined (Docker) or unmask=ALL (podman)."
    for switch, bad, remedy in _SWITCHES:
        try:
            value = Path("/proc/sys", switch).read_text().strip()
        except OSError:
            continue
        if value == bad:
            return f"The kernel forbids user namespaces here: {remedy}."
    if in_container():
        return "In a container, user namespaces need --security-opt seccomp=unconfined (Docker) or a wider profile."
    return "The kernel's log (dmesg, journalctl -k) says what refuses the namespaces: AppArmor, SELinux or seccomp."
