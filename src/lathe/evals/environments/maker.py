"""Which kind of environment this machine can give."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from lathe.evals.environments.base import EnvironmentFault, EnvironmentMaker

KINDS: Final = ("auto", "rootfs", "podman", "docker")


def open_maker(kind: str, home: Path) -> EnvironmentMaker:
    """Return what makes environments of a kind: `rootfs`, `podman`, `docker`, or `auto` for the best there is.

    `home` is the folder of what can be made again, such as images. Raises `EnvironmentFault`.
    """
    if kind not in KINDS:
        raise EnvironmentFault("start", f"There is no environment {kind}; there are {', '.join(KINDS)}.")
    chosen = _best() if kind == "auto" else kind
    if chosen == "rootfs":
        from lathe.evals.environments.images import BuiltImages
        from lathe.evals.environments.rootfs import RootfsMaker
        from lathe.evals.environments.storage import Storage

        if why := rootfs_trouble():
            raise EnvironmentFault("start", f"The environment rootfs cannot be had here: {why}.")
        return RootfsMaker(home, BuiltImages(Storage(home)))
    from lathe.evals.environments.podman import ContainerMaker

    return ContainerMaker(chosen, home)


def _best() -> str:
    why = rootfs_trouble()
    if not why:
        return "rootfs"
    for name in ("podman", "docker"):
        if shutil.which(name):
            return name
    raise EnvironmentFault("start", f"No environment can be had here: {why}; neither podman nor docker is installed.")


def rootfs_trouble() -> str:
    """Return why root file systems cannot be used here, "" where they can as far as that is seen from outside."""
    from lathe.sandbox.bubblewrap import find_program

    if sys.platform != "linux":
        return "it takes Linux"
    if os.geteuid() != 0:
        return "it takes root"
    return "" if find_program() else "bubblewrap is not installed (apt-get install bubblewrap)"
