"""Which tiers work on this machine, and what would make the others work."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

from lathe.protocol.errors import ConfigError
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.runner import Runner
from lathe.sandbox.tiers import TIERS


class TierReport(NamedTuple):
    """A tier; whether it works here; how it was seen, or why not; and what to do about that."""

    tier: str
    works: bool
    reason: str
    fix: str = ""


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


def probe() -> list[TierReport]:
    """Return a report of each tier, strongest first, each tried by running a command in it."""
    reports: list[TierReport] = []

    def work() -> None:
        reports.extend(asyncio.run(_probe()))

    # in a thread of its own, so that it can be called from a running event loop too
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return reports


async def _probe() -> list[TierReport]:
    return [await _try(tier) for tier in TIERS]


async def _try(tier: str) -> TierReport:
    with tempfile.TemporaryDirectory(prefix="lathe-probe-", ignore_cleanup_errors=True) as folder:
        policy = SandboxPolicy(writable_roots=(folder,))
        runner = Runner(policy, cwd=Path(folder), env={"PATH": os.defpath}, tiers=(tier,))
        written: list[bytes] = []
        try:
            process = await runner.spawn(["/bin/sh", "-c", ": > inside"], cwd=folder, on_output=written.append)
            status = await process.wait()
        except ConfigError as error:
            return TierReport(tier, False, error.message, _fix(tier))
        finally:
            await runner.aclose()
        if status or not Path(folder, "inside").exists():
            said = b"".join(written).decode("utf-8", "replace").strip()
            return TierReport(tier, False, f"A command in it failed: {said or f'exit status {status}'}.", _fix(tier))
    return TierReport(tier, True, "A command ran in it, and wrote only where it may.")


def _fix(tier: str) -> str:
    if tier == "landlock":
        return "Landlock needs Linux 6.2 or later with landlock among the kernel's lsm=, and x86-64 or arm64."
    for switch, bad, fix in _SWITCHES:
        try:
            value = Path("/proc/sys", switch).read_text().strip()
        except OSError:
            continue
        if value == bad:
            return f"The kernel forbids user namespaces here: {fix}."
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "In a container, user namespaces need --security-opt seccomp=unconfined (Docker) or a wider profile."
    return "Install bubblewrap: apt-get install bubblewrap, dnf install bubblewrap, or pacman -S bubblewrap."
