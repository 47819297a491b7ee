"""Writing a run's report: `report.html`, `report.json` and `report.md`, each whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from lathe.evals.record import Plan, Trial
from lathe.evals.report.document import Report, build
from lathe.evals.report.markdown import as_markdown
from lathe.evals.report.page import as_page
from lathe.protocol.errors import StorageError


def write_report(folder: Path, plan: Plan, trials: list[Trial]) -> Report:
    """Write the report of a run into its folder and return what it says; raise `StorageError`."""
    report = build(plan, trials)
    _write(folder / "report.json", msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    _write(folder / "report.md", as_markdown(report).encode("utf-8", "replace"))
    _write(folder / "report.html", as_page(report, folder).encode("utf-8", "replace"))
    return report


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise StorageError(f"{path} can't be written: {error.strerror}.") from None
