"""Folders opened part by part, so that one which is swapped for a link meanwhile leads nowhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def opened_parent(root: bytes, path: bytes) -> Iterator[tuple[int, bytes]]:
    """Open the folder below `root` that holds the relative `path`; give its descriptor and the path's last part.

    Raises `OSError` where a folder is not there, or is a link.
    """
    *parts, name = path.split(b"/")
    at = os.open(root, _FOLDER)
    try:
        for part in parts:
            inner = os.open(part, _FOLDER, dir_fd=at)
            os.close(at)
            at = inner
        yield at, name
    finally:
        os.close(at)
