"""Which kind of environment this machine can give."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final, NamedTuple

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


class Part(NamedTuple):
    """What evaluations can be run in here: its name, whether it is there, what is to be said, and what to do."""

    name: str
    works: bool
    detail: str
    fix: str = ""


def examine() -> list[Part]:
    """Return what can be had on this machine; nothing is started but what that takes."""
    from lathe.evals.environments.runtime import is_needed
    from lathe.evals.environments.standins import find_python
    from lathe.evals.environments.storage import missing_programs

    why = rootfs_trouble()
    rooms = Part("eval rooms", not why, why or "root file systems with bubblewrap, no Docker needed")
    missing = missing_programs()
    images = Part("eval images", not missing, f"{' and '.join(missing)} not found" if missing else "built by buildah")
    if missing:
        images = images._replace(fix="Tasks with a Dockerfile need it: apt-get install buildah runc.")
    elif shutil.which("debootstrap"):
        pythons = [version for version in ("3.10", "3.11", "3.12", "3.13") if find_python(version)]
        detail = (
            f"built by buildah; stand-ins by debootstrap, with Python {', '.join(pythons) or 'none'} of this machine"
        )
        images = images._replace(detail=detail)
    engines = [name for name in ("podman", "docker") if shutil.which(name)]
    said = f"{' and '.join(engines)} found" if engines else "neither podman nor docker found, and none is needed"
    if engines and is_needed():
        said += "; without CAP_SYS_RESOURCE, podman is given a runtime that sets no rlimits"
    return [rooms, images, Part("eval engines", True, said)]
