"""A pytest plugin, run in the project's own process: writes the deprecations that the tests meet to a file, as JSON."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

OUTPUT = "LATHE_MEND_WARNINGS"
_KINDS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
_found: list[dict[str, Any]] = []


def pytest_warning_recorded(warning_message: warnings.WarningMessage, nodeid: str) -> None:
    """Keep a deprecation: its kind, its words, and the place that it blames."""
    if issubclass(warning_message.category, _KINDS):
        entry = {
            "kind": warning_message.category.__name__,
            "text": str(warning_message.message),
            "file": warning_message.filename,
            "line": warning_message.lineno,
            "test": nodeid,
        }
        _found.append(entry)


def pytest_unconfigure() -> None:
    """Write what was kept."""
    Path(os.environ[OUTPUT]).write_text(json.dumps(_found), encoding="utf-8")
