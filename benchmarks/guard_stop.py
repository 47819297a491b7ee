"""How long it takes from an alarm until it is certain that an agent has stopped, and what is left of it.

Each drill starts eight kinds of processes in one session (`lathe guard drill --help` lists them), raises an alarm, and
looks at what is left: by command lines, by files that are touched, by the connection of the tunnel, whatever the stop
itself reports. It is done in each kind of sandbox; without a sandbox also where no control group may be made, so that
nothing but /proc says who is to be stopped. The baseline is a plain kill of each command's own process, by its
number, in every fifth drill, before the alarm; what it leaves is counted, and the stop has to end it too.

usage: guard_stop.py [--check] [--json] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import Any, NamedTuple

from measuring import median, table

from lathe.agent.drill import Drill, drill
from lathe.protocol.errors import ConfigError
from lathe.sandbox import cgroups
from lathe.sandbox.ladder import rung

BARS = {"p99_s": 1.0, "survivors": 0}
_track = cgroups.track


class Place(NamedTuple):
    """Where drills take place: the letter of a kind of sandbox, and whether a control group may be made."""

    letter: str
    tracked: bool = True

    @property
    def name(self) -> str:
        """Its name in the table."""
        alone = "" if self.tracked else ", no control group"
        return f"{self.letter} ({rung(self.letter).name}{alone})"


PLACES = (Place("A"), Place("B"), Place("C"), Place("D"), Place("D", False), Place("F"), Place("F", False))


def main() -> int:
    """Measure, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="drills in each place")
    options = parser.parse_args()
    done: dict[Place, list[Drill]] = {}
    for place in PLACES:
        cgroups.track = _track if place.tracked else lambda pid: None
        try:
            done[place] = [asyncio.run(drill(place.letter, baseline=at % 5 == 0)) for at in range(options.rounds)]
        except ConfigError as error:
            print(f"{place.name}: {error.message}", file=sys.stderr)
    every = [one for drills in done.values() for one in drills]
    figures = {place.name: figures_of(drills) for place, drills in done.items()}
    figures["all"] = figures_of(every)
    if options.json:
        print(json.dumps({"bars": BARS, "load": os.getloadavg()[0], **figures}, indent=1))
    else:
        shown(figures)
    missed = [name for name, bar in BARS.items() if figures["all"][name] > bar]
    if len(every) < 100:
        missed.append(f"only {len(every)} drills")
    if options.check and missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if options.check and missed else 0


def figures_of(drills: list[Drill]) -> dict[str, Any]:
    """Return the figures of some drills; those of one are never left out for another's."""
    seconds = sorted(one.seconds for one in drills)
    left = [what for one in drills for what in one.survivors]
    by_kill = [one.by_kill for one in drills if one.by_kill is not None]
    return {
        "drills": len(drills),
        "processes": sum(one.stopped.found for one in drills),
        "p50_s": round(median(seconds), 4),
        "p99_s": round(seconds[min(len(seconds) - 1, int(len(seconds) * 0.99))], 4),
        "most_s": round(seconds[-1], 4),
        "survivors": len(left),
        "what_survived": left[:20],
        "left_by_kill": round(median([float(count) for count in by_kill]), 1),
        "kills_that_left_some": sum(count > 0 for count in by_kill),
        "kills": len(by_kill),
    }


def shown(figures: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    header = ["where", "drills", "processes", "p50", "p99", "most", "survivors", "left by `kill(pid)` (median)"]
    rows = [
        [
            name,
            str(one["drills"]),
            f"{one['processes']:,}",
            *(f"{one[key] * 1000:,.0f} ms" for key in ("p50_s", "p99_s", "most_s")),
            str(one["survivors"]),
            f"{one['left_by_kill']:.0f} processes ({one['kills_that_left_some']} of {one['kills']} tries)",
        ]
        for name, one in figures.items()
    ]
    print(table(header, rows))
    for name, one in figures.items():
        if one["what_survived"] and name != "all":
            print(f"{name}: {'; '.join(one['what_survived'])}")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")


if __name__ == "__main__":
    sys.exit(main())
