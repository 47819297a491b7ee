"""Folders that a format needs and no data set ships (scripts, checkouts): made once, kept by what they are made of.

They lie in the cache folder and may be removed whenever no run uses them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from lathe.config.paths import cache_home


class Maker:
    """Makes folders below `home`; by default below `evals/made` in Lathe's cache folder."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or cache_home(os.environ) / "evals" / "made"

    def folder(self, digest: str, build: Callable[[Path], None]) -> Path:
        """Return the folder that goes by `digest`, which `build` fills where it is not there yet.

        What was cut short leaves nothing behind, and of two at once one wins. What `build` raises is passed on.
        """
        target = self.home / digest.removeprefix("sha256:")[:40]
        if (target / "made").is_file():
            return target / "files"
        self.home.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".making-", dir=self.home))
        try:
            (fresh / "files").mkdir()
            build(fresh / "files")
            (fresh / "made").touch()
            fresh.chmod(0o755)
            if target.exists() and not (target / "made").is_file():
                shutil.rmtree(target)
            try:
                fresh.rename(target)
            except OSError:
                if not (target / "made").is_file():
                    raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return target / "files"


def script(path: Path, text: str) -> None:
    """Write a program's text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
