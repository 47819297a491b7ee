"""Kinds of environment by name."""

from __future__ import annotations

from pathlib import Path

from lathe.evals.environments.base import EnvironmentFault, EnvironmentMaker


def open_maker(kind: str, home: Path) -> EnvironmentMaker:
    """Return a maker of environments of a kind, `auto` for what works here; `home` is the cache's folder.

    Raises `EnvironmentFault`.
    """
    if kind in ("auto", "rootfs"):
        from lathe.evals.environments.rootfs import RootfsMaker

        return RootfsMaker(home)
    raise EnvironmentFault("start", f"There is no environment {kind}.")
