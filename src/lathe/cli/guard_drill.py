"""`lathe guard drill`: whether a stop stops, tried with processes that do all they can to go on."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from lathe.protocol.codec import encode

if TYPE_CHECKING:
    from lathe.agent.drill import Drill

LONGEST_S = 1.0
"""How long an alarm may take to become a stop."""


def main(argv: list[str]) -> int:
    """Run `lathe guard drill` and return its exit code: 1 where something is left or it takes more than a second."""
    from lathe.agent.drill import KINDS, drill

    parser = argparse.ArgumentParser(
        prog="lathe guard drill",
        description="Starts processes that do not want to end, raises an alarm, and looks at what is left of them. "
        "All of them end by themselves within half a minute, whatever comes of it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="kinds of processes:\n" + "\n".join(f"  {kind:<9} {what}" for kind, what in KINDS.items()),
        allow_abbrev=False,
    )
    parser.add_argument(
        "--sandbox",
        action="append",
        choices=list("ABCDEF"),
        default=[],
        metavar="LETTER",
        help="in this kind of sandbox (see lathe doctor; F is none); the strongest one that works if left out",
    )
    parser.add_argument(
        "--kind", action="append", choices=list(KINDS), default=[], metavar="KIND", help="only this kind of processes"
    )
    parser.add_argument("--times", type=_count, default=1, metavar="N", help="how often")
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each drill")
    options = parser.parse_args(argv)
    bad = False
    for letter in options.sandbox or [""]:
        for _ in range(options.times):
            found = asyncio.run(drill(letter, tuple(options.kind)))
            failed = bool(found.survivors) or found.seconds > LONGEST_S
            bad = bad or failed
            print(encode(_plain(found, failed)).decode() if options.json else _text(found, failed), flush=True)
    return 1 if bad else 0


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError("must be a number from 1 to 10000")
    return int(text)


def _plain(found: Drill, failed: bool) -> dict[str, Any]:
    stopped = found.stopped
    return {
        "sandbox": found.letter,
        "kinds": found.kinds,
        "processes": stopped.found,
        "connections": stopped.connections,
        "killed_s": round(stopped.killed_s, 4),
        "proven_s": round(found.seconds, 4),
        "ways": stopped.ways,
        "survivors": found.survivors,
        "ok": not failed,
    }


def _text(found: Drill, failed: bool) -> str:
    stopped = found.stopped
    lines = [
        ("sandbox", found.letter),
        ("processes", f"{stopped.found}: {', '.join(found.kinds)}"),
        ("connections cut", str(stopped.connections)),
        ("by", ", ".join(stopped.ways) or "each process by itself"),
        ("all gone after", f"{stopped.killed_s:.3f} s"),
        ("found to be so after", f"{found.seconds:.3f} s" + (" (too late)" if found.seconds > LONGEST_S else "")),
        ("left", "; ".join(found.survivors) or "nothing"),
    ]
    return "\n".join(f"{name:<21} {text}" for name, text in lines) + ("\nfailed\n" if failed else "\n")
