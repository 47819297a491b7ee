"""What the monitor of acts costs a command, how often it alerts on ordinary ones, and what it finds of malicious ones.

Commands are those of shared/data/guard, repeated up to `--commands`; they are held against the shipped rules, and
against these with all rules of SigmaHQ for Linux that `--sigma` names (a folder, or a git repository). The bars are
for all of them. Three times are taken, of CPU, the least of three tries: the rules alone, for a line that was read as
shell already (approvals and the destructive check read it anyway); reading; and both, where a line without a telling
word is not read. An alert is a finding with a score of 0.5 or more, a note one with less. The monitor of secrets looks
at the same commands, as the agent has it where there is a network; both together stay under the bar of alerts. Recall
is printed as it is and has no bar: the set is mostly for Windows and macOS, for which there are no rules here, and the
rules' author had seen its commands.

usage: guard_acts.py [--check] [--json] [--commands N] [--sigma PATH] [--indicators N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from measuring import table

from lathe.guard.acts.monitor import ActMonitor, shipped_rules
from lathe.guard.acts.sigma import Rule, read_rule
from lathe.guard.findings import Call, Finding
from lathe.guard.indicators import Indicator
from lathe.guard.secrets_monitor import SecretsMonitor
from lathe.guard.shell_run import Context, Reading, follow
from lathe.protocol.errors import ConfigError

DATA = Path(__file__).resolve().parents[1] / "shared" / "data" / "guard"
ELSEWHERE = Path("/work/shared/data/guard")
SIGMA = Path("/work/.mirror/SigmaHQ+sigma/repo")
TRIES = 3
BARS = {"p99_ms": 1.0, "benign_alerts": 0.005}
ALERT = 0.5
CONTEXT = Context("/work", {"HOME": "/root", "PWD": "/work"}, "/work")


def main() -> int:
    """Measure, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--commands", type=int, default=10_000, metavar="N")
    parser.add_argument("--sigma", type=Path, metavar="PATH", default=SIGMA if SIGMA.is_dir() else None)
    parser.add_argument("--indicators", type=int, default=10_000, metavar="N", help="indicators that match nothing")
    options = parser.parse_args()
    folder = DATA if DATA.is_dir() else ELSEWHERE
    benign, malicious = rows(folder / "commands_benign.jsonl"), rows(folder / "commands_malicious.jsonl")
    others = foreign(options.sigma) if options.sigma else []
    figures: dict[str, Any] = {}
    for name, rules in {"shipped": shipped_rules(), **({"with others": others} if others else {})}.items():
        whole = [*shipped_rules(), *rules] if name != "shipped" else rules
        monitor = ActMonitor(whole, stand_ins(options.indicators))
        figures[name] = {"rules": len(whole), **measured(monitor, benign, malicious, options.commands)}
    if options.json:
        print(json.dumps({"bars": BARS, "indicators": options.indicators, **figures}, indent=1))
    else:
        shown(figures)
    missed = [name for name, bar in BARS.items() if any(of[name] > bar for of in figures.values())]
    if options.check and missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if options.check and missed else 0


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a data set."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give a folder with rules: `path` itself, or those for Linux of the git repository that it is."""
    if not (path / "HEAD").is_file():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = ["git", "-C", str(path), "archive", "HEAD", "rules/linux"]
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as taken:
            subprocess.run(["tar", "-x", "-C", folder], stdin=taken.stdout, check=True)
        yield Path(folder)


def foreign(path: Path) -> list[Rule]:
    """Return the rules of a folder or a repository that can be used; say how many can't."""
    found, left = [], 0
    with unpacked(path) as folder:
        for file in sorted(folder.rglob("*.yml")):
            try:
                found.append(read_rule(file))
            except ConfigError:
                left += 1
    print(f"{len(found)} rules of others; {left} are for other log sources", file=sys.stderr)
    return found


def stand_ins(count: int) -> list[Indicator]:
    """Return indicators of names that nobody has (RFC 2606), for the size of a real store."""
    return [Indicator("domain", f"h{at}.invalid", "stand-in", f"indicator--{at}") for at in range(count)]


def measured(
    monitor: ActMonitor, benign: Sequence[dict[str, str]], malicious: Sequence[dict[str, str]], count: int
) -> dict[str, Any]:
    """Return times in ms over `count` commands, and shares of commands with an alert."""
    texts = [row["text"] for row in (*benign, *malicious)]
    readings: dict[str, Reading] = {}
    reading_ms, rules_ms, whole_ms = [], [], []
    for text in texts:
        reading_ms.append(least(lambda text=text: follow(text, CONTEXT)))
        readings[text] = follow(text, CONTEXT)
    for text in islice(cycle(texts), count):
        rules_ms.append(least(lambda text=text: monitor.look(text, cwd="/work", reading=readings[text])))
        whole_ms.append(least(lambda text=text: monitor.look(text, cwd="/work")))
    calls = {row["text"]: Call("call", "exec_command", json.dumps({"cmd": row["text"]})) for row in benign}
    secrets = SecretsMonitor()
    secrets_ms = [least(lambda call=call: secrets.sent((call,), ())) for call in calls.values()]
    leaks = {text for text, call in calls.items() if alert(secrets.sent((call,), ()))}
    alerts = [row for row in benign if alert(monitor.look(row["text"], cwd="/work")) or row["text"] in leaks]
    seen = [(row["source"], monitor.look(row["text"], cwd="/work")) for row in malicious]
    found = Counter(source for source, findings in seen if alert(findings))
    noted = Counter(source for source, findings in seen if findings)
    sizes = Counter(row["source"] for row in malicious)
    return {
        "commands": count,
        "p99_ms": round(at(rules_ms, 0.99), 3),
        "p50_ms": round(at(rules_ms, 0.5), 3),
        "reading_p50_ms": round(at(reading_ms, 0.5), 3),
        "reading_p99_ms": round(at(reading_ms, 0.99), 3),
        "whole_p50_ms": round(at(whole_ms, 0.5), 3),
        "whole_p99_ms": round(at(whole_ms, 0.99), 3),
        "secrets_p50_ms": round(at(secrets_ms, 0.5), 3),
        "secrets_p99_ms": round(at(secrets_ms, 0.99), 3),
        "secrets_alerts": len(leaks),
        "benign": len(benign),
        "benign_alerts": round(len(alerts) / len(benign), 4),
        "recall": {name: [found[name], noted[name], size] for name, size in sizes.items()},
    }


def least(act: Callable[[], object]) -> float:
    """Return the CPU time of an act in ms, the least of three tries: others on the machine only ever add to it."""
    tries = []
    for _ in range(TRIES):
        began = time.thread_time()
        act()
        tries.append(time.thread_time() - began)
    return min(tries) * 1e3


def alert(findings: Sequence[Finding]) -> bool:
    """Tell whether anybody would hear of it."""
    return any(one.score >= ALERT for one in findings)


def at(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of them lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def shown(figures: dict[str, Any]) -> None:
    """Print the figures of each set of rules beside its bars."""
    lines = []
    for name, of in figures.items():
        rules = f"{name} ({of['rules']})"
        lines += [
            [f"{rules}: rules alone, p50 / p99 ms", f"{of['p50_ms']:.3f} / {of['p99_ms']:.3f}", "p99 under 1"],
            [f"{rules}: reading alone", f"{of['reading_p50_ms']:.2f} / {of['reading_p99_ms']:.2f}", ""],
            [f"{rules}: both", f"{of['whole_p50_ms']:.2f} / {of['whole_p99_ms']:.2f}", ""],
            [f"{rules}: secrets, p50 / p99 ms", f"{of['secrets_p50_ms']:.3f} / {of['secrets_p99_ms']:.3f}", ""],
            [f"{rules}: alerts of {of['benign']} benign", f"{of['benign_alerts']:.2%}", "at most 0.5 %"],
        ]
        lines += [
            [f"{rules}: alerts / alerts and notes of {source}", f"{hits} / {noted} of {size}", ""]
            for source, (hits, noted, size) in of["recall"].items()
        ]
    print(table(["", "found", "bar"], lines))


if __name__ == "__main__":
    sys.exit(main())
