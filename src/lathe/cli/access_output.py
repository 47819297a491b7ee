"""What `lathe access` prints: tables and fields for people, the gateway's own JSON for machines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lathe.gateway.refusals import moment
from lathe.protocol.codec import encode
from lathe.protocol.errors import UsageError

if TYPE_CHECKING:
    from lathe.cli.access import Call

_SPANS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MOST = 60


def print_json(value: Any) -> None:
    """Print a value as JSON, on one line."""
    print(encode(value).decode())


def print_table(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print rows under headings; a heading `name:time` is of milliseconds, `name:usd` of micro-dollars."""
    wanted = [column.partition(":") for column in columns]
    table = [[name.replace("_", " ") for name, _, _ in wanted]]
    table += [[_cell(row.get(name), kind) for name, _, kind in wanted] for row in rows]
    if len(table) == 1:
        print("There is none.")
        return
    widths = [max(len(line[at]) for line in table) for at in range(len(wanted))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_fields(row: dict[str, Any], columns: Sequence[str]) -> None:
    """Print one thing, a field a line; columns as for `print_table`; what is empty is left out."""
    wanted = [column.partition(":") for column in columns]
    width = max(len(name) for name, _, _ in wanted)
    for name, _, kind in wanted:
        if row.get(name) not in (None, "", [], {}):
            print(f"{name.replace('_', ' '):<{width}}  {_cell(row[name], kind, most=10_000)}")


def print_lines(text: str) -> None:
    """Print text of several lines that others have written; what is in it must not steer the terminal."""
    for line in text.splitlines() or [""]:
        print("".join(letter if letter.isprintable() else " " for letter in line))


def show(call: Call, found: dict[str, Any], columns: Sequence[str]) -> None:
    """Print one thing that the gateway has answered."""
    if call.options.json:
        print_json(found)
    else:
        print_fields(found, columns)


def show_list(call: Call, path: str, query: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Ask for a list, all pages of it, and print it."""
    found = list(call.gateway.pages(path, query))
    if call.options.json:
        print_json(found)
    else:
        print_table(found, columns)


def read_time(text: str) -> int:
    """Return milliseconds since the epoch of `90d`, `12h`, a date or a time (RFC 3339); raise `UsageError`."""
    span = re.fullmatch(r"(\d{1,5})([mhdw])", text)
    if span:
        return int((datetime.now(UTC) + timedelta(seconds=int(span[1]) * _SPANS[span[2]])).timestamp() * 1000)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time.", hint="Give 90d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z.") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def _cell(value: Any, kind: str, most: int = _MOST) -> str:
    if kind == "time":
        return "" if value is None else moment(value)
    if kind == "usd":
        return f"${(value or 0) / 1e6:,.4f}"
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        text = ", ".join(one if isinstance(one, str) else encode(one).decode() for one in value)
    elif isinstance(value, dict):
        text = encode(value).decode() if value else ""
    else:
        text = str(value)
    # what comes from others must not steer the terminal
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
