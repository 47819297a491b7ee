"""Rows of delimited text, as dictionaries."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path


def read_rows(path: Path, *, delimiter: str = ";", comment: str = "#") -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each data row of `path` with its line number; names and values are stripped of surrounding space.

    The first line that is neither blank nor a comment names the columns.
    """
    columns: list[str] = []
    with path.open(encoding="utf-8", newline="") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip() or line.startswith(comment):
                continue
            values = [value.strip() for value in next(csv.reader([line], delimiter=delimiter))]
            if not columns:
                columns = [name.lower() for name in values]
            else:
                yield number, dict(zip(columns, values, strict=False))


def parse_flag(text: str) -> bool:
    """Return what `text` says: yes, true, y and 1 are true, everything else is not."""
    return text.strip().lower() in {"yes", "true", "y", "1"}
