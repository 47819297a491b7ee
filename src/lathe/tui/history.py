"""The person's earlier prompts, kept in a file that only they can read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit.history import FileHistory

KEPT = 2_000
"""How many prompts are read back."""


class PromptHistory(FileHistory):
    """Prompts in the file at `path`, made at the first one; where it can't be written they last for this session."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(str(path))

    def load_history_strings(self) -> Iterable[str]:
        """Return the newest `KEPT` prompts, newest first; none where the file can't be read."""
        try:
            return list(super().load_history_strings())[:KEPT]
        except OSError:
            return []

    def store_string(self, string: str) -> None:
        """Add a prompt to the file."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600))
            super().store_string(string)
        except OSError:
            return
