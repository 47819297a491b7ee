"""How much a trial has written, and whether that is too much."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_MIB: Final = 1 << 20
_LEFT_FREE: Final = 1 << 30
"""So many bytes are left to the machine, whatever a task may have."""
_MARGIN: Final = 64 * _MIB
_BLOCK: Final = 512


class Disk:
    """Watches folders; they are looked through only when so much of the disk has gone that it could be too much."""

    def __init__(self, folders: Sequence[Path], most_mb: int) -> None:
        self._folders = folders
        self._most = most_mb * _MIB
        self._used = 0
        self._free = 0

    def begin(self) -> None:
        """Take what is free now as what it was before."""
        self._free = _free(self._folders[0])

    async def is_full(self) -> bool:
        """Return whether the limit was passed; what is there then is allowed from now on, and a little more."""
        free = _free(self._folders[0])
        too_much = bool(self._most) and self._free - free > self._most - self._used
        if not too_much and free > _LEFT_FREE:
            return False
        before = self._used
        self._used = await asyncio.to_thread(_used, self._folders)
        self._free = free
        if self._used <= self._most and (free > _LEFT_FREE or self._used - before < _MARGIN):
            return False
        self._most = max(self._most, self._used + _MARGIN)
        return True


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _used(folders: Sequence[Path]) -> int:
    total = 0
    for top in folders:
        for folder, _, names in os.walk(top):
            for name in names:
                with contextlib.suppress(OSError):
                    total += Path(folder, name).lstat().st_blocks * _BLOCK
    return total
