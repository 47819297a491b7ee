"""What hiding secrets finds, what it hides for nothing, and what it costs.

Found: secrets made in this run, in the formats of 35 services and forms, in the texts in which they turn up; one counts
as missed where any ten characters of it in a row are left. Hidden for nothing: real text without secrets, or with none
but those that its authors made up; what is hidden there is counted per MB, once for each value in a file. Cost: MB
per second of CPU. The baselines are `is_secret_value`, by which variables are kept from commands, line by line, and one
regular expression of all keywords, without which no rule is tried.

usage: hiding.py [--check] [--json] [--rounds N] [--mb N] [--show]
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from measuring import table
from secret_samples import samples

from lathe.guard.secret_rules import RuleSet, load_secret_rules
from lathe.guard.secrets import Detector
from lathe.guard.vault import Vault
from lathe.sandbox.environment import is_secret_value

BARS = {"found": 0.98, "alarms_per_mb": 1.0, "output_mb_s": 25.0}
LEFT = 10
ROOT = Path(__file__).parent.parent
STANDARD = Path(sysconfig.get_paths()["stdlib"])
PACKAGES = Path(sysconfig.get_paths()["purelib"])


def found(rules: RuleSet, rounds: int) -> tuple[Counter[str], Counter[str], Counter[str], list[str]]:
    """Return by kind: the secrets made, those hidden, those that `is_secret_value` sees; and what was missed."""
    made, hidden, baseline = Counter[str](), Counter[str](), Counter[str]()
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="lathe-hiding-") as home:
        for sample in samples(int(time.time()), rounds):
            vault = Vault(Path(home), lambda: rules)
            text = vault.hide(sample.text)
            if vault.reveal(text) != sample.text:
                missed.append(f"{sample.kind}, {sample.context}: not as it was once revealed")
            left = [part for secret in sample.secrets for part in pieces(secret) if part in text]
            made[sample.kind] += 1
            hidden[sample.kind] += not left
            baseline[sample.kind] += any(is_secret_value(line) for line in sample.text.splitlines())
            if left:
                missed.append(f"{sample.kind}, {sample.context}: {sample.text!r}")
    return made, hidden, baseline, missed


def pieces(secret: str) -> Iterator[str]:
    for at in range(len(secret) - LEFT + 1):
        yield secret[at : at + LEFT]


def sources(folder: Path) -> Iterator[str]:
    paths = sorted(folder.rglob("*.py"))
    random.Random(2).shuffle(paths)
    for path in paths:
        if folder is PACKAGES or "site-packages" not in path.parts:
            yield path.read_text(encoding="utf-8", errors="replace")


def repository() -> Iterator[str]:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.splitlines():
        if (ROOT / name).is_file() and not name.endswith((".png", ".gif")):
            yield (ROOT / name).read_text(encoding="utf-8", errors="replace")


def log() -> Iterator[str]:
    for options in (["--stat", "--format=raw"], ["-p"]):
        yield subprocess.run(
            ["git", "log", *options], cwd=ROOT, check=True, capture_output=True, text=True, errors="replace"
        ).stdout


def locks() -> Iterator[str]:
    """Yield what package managers print and write: a list, and the hashes of files in three forms of lock file."""
    yield subprocess.run([sys.executable, "-m", "pip", "list"], capture_output=True, text=True).stdout
    rng = random.Random(3)
    for record in sorted(PACKAGES.glob("*.dist-info/RECORD")):
        text = record.read_text(encoding="utf-8", errors="replace")
        yield text
        name, digest = record.parent.name.split("-")[0], rng.randbytes(64)
        yield (
            f'[[package]]\nname = "{name}"\nchecksum = "{digest[:32].hex()}"\ncontent-hash = "{digest[32:].hex()}"\n'
            f'    {{file = "{name}.whl", hash = "sha256:{digest[:32].hex()}"}},\n'
            f'"node_modules/{name}": {{\n  "resolved": "https://registry.example.org/{name}/-/{name}-1.0.2.tgz",\n'
            f'  "integrity": "sha512-{base64.b64encode(digest).decode()}",\n  "license": "MIT"\n}},\n'
        )


def identifiers() -> Iterator[str]:
    """Yield lines of UUIDs, digests and commits, as logs and databases show them."""
    rng = random.Random(4)
    for _ in range(20_000):
        one = uuid.UUID(int=rng.getrandbits(128), version=4)
        yield f'{one} request_id={one} trace={rng.randbytes(16).hex()} etag="{rng.randbytes(10).hex()}" {{id: {one}}}\n'


def pages() -> Iterator[str]:
    """Yield HTML with images in base64."""
    rng = random.Random(5)
    for number in range(40):
        image = base64.b64encode(rng.randbytes(40_000)).decode()
        yield f'<html><body><h1>{number}</h1><img alt="x" src="data:image/png;base64,{image}"></body></html>\n'


CORPORA: dict[str, Callable[[], Iterator[str]]] = {
    "the standard library and its tests": lambda: sources(STANDARD),
    "installed packages": lambda: sources(PACKAGES),
    "this repository": repository,
    "its log, with patches": log,
    "pip list, lock files, records": locks,
    "UUIDs and digests": identifiers,
    "images in HTML": pages,
}


def alarms(detector: Detector, most_mb: int) -> tuple[dict[str, tuple[float, int, int]], list[str]]:
    """Return for each corpus its MB, the values hidden, and the lines that `is_secret_value` sees; and each value."""
    result, shown = {}, []
    for name, texts in CORPORA.items():
        size = hits = baseline = 0
        for text in texts():
            if size > most_mb * 1e6:
                break
            size += len(text)
            values = {(one.kind, text[one.start : one.end]): one for one in detector.find(text)}
            hits += len(values)
            baseline += sum(is_secret_value(line) for line in text.splitlines())
            for one in values.values():
                shown.append(f"{name}: {one.kind}: {text[max(one.start - 40, 0) : one.end + 4]!r}")
        result[name] = (size / 1e6, hits, baseline)
    return result, shown


def test_output() -> str:
    """Return 10,000 lines as a test run and a compiler print them."""
    lines = []
    for number in range(2_500):
        lines += [
            f"tests/unit/test_orders_{number % 90}.py::TestOrders::test_an_order_of_{number}_items PASSED",
            f"src/engine/parser/expression_{number % 40}.cc:{number}:17: warning: unused variable ‘result’ [-Wunused]",
            f"  {number} |     const auto result = visitor.accept(node, context, &diagnostics_{number % 7});",
            f"[{number}/2500] Building CXX object src/engine/CMakeFiles/engine.dir/parser/expression.cc.o",
        ]
    return "\n".join(lines) + "\n"


def speed(act: Callable[[], object], size: int, rounds: int = 5) -> float:
    """Return MB per second of CPU, the best of so many rounds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.thread_time()
        act()
        best = min(best, time.thread_time() - began)
    return size / 1e6 / best


def speeds(rules: RuleSet, detector: Detector) -> dict[str, tuple[float, float, float]]:
    """Return MB per second on each kind of text: hiding, `is_secret_value`, one expression of the keywords."""
    keywords = sorted({word for rule in rules.rules for word in rule.keywords})
    every = re.compile("|".join(map(re.escape, keywords)), re.IGNORECASE)
    code = "".join(text for _, text in zip(range(60), sources(STANDARD), strict=False))
    result = {}
    for name, text in {"10,000 lines of tests and compiler": test_output(), "standard library": code}.items():
        size = len(text)
        result[name] = (
            speed(lambda text=text: detector.find(text), size),
            speed(lambda text=text: [is_secret_value(line) for line in text.splitlines()], size, 2),
            speed(lambda text=text: every.findall(text), size, 1),
        )
    return result


def main() -> int:
    """Measure, print, and return 1 with --check where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--mb", type=int, default=6, help="the most of each corpus that is looked through")
    parser.add_argument("--show", action="store_true", help="print what was missed and what was hidden for nothing")
    options = parser.parse_args()
    rules = load_secret_rules()
    detector = Detector(rules)
    made, hidden, seen, missed = found(rules, options.rounds)
    noise, shown = alarms(detector, options.mb)
    rates = speeds(rules, detector)
    size, hits = sum(mb for mb, _, _ in noise.values()), sum(hits for _, hits, _ in noise.values())
    figures = {
        "secrets": made.total(),
        "found": hidden.total() / made.total(),
        "found_by_kind": {kind: hidden[kind] / made[kind] for kind in made},
        "found_by_baseline": seen.total() / made.total(),
        "alarms_per_mb": hits / size,
        "alarms": {name: hits for name, (_, hits, _) in noise.items()},
        "output_mb_s": rates["10,000 lines of tests and compiler"][0],
        "mb_s": rates,
    }
    if options.json:
        print(json.dumps({"at": time.time(), "figures": figures, "missed": missed}))
    else:
        rows = [
            [kind, str(made[kind]), f"{hidden[kind] / made[kind]:.1%}", f"{seen[kind] / made[kind]:.1%}"]
            for kind in sorted(made, key=lambda kind: hidden[kind] / made[kind])
        ]
        rows.append(["**all**", str(made.total()), f"{figures['found']:.2%}", f"{figures['found_by_baseline']:.1%}"])
        print(table(["secrets found", "made", "hidden", "is_secret_value"], rows), "\n")
        rows = [
            [name, f"{mb:.1f}", str(hits), f"{hits / mb:.2f}", f"{lines / mb:.2f}"]
            for name, (mb, hits, lines) in noise.items()
        ]
        rows.append(["**all**", f"{size:.1f}", str(hits), f"{hits / size:.2f}", ""])
        print(table(["hidden for nothing", "MB", "values", "per MB", "is_secret_value, lines per MB"], rows), "\n")
        rows = [[name, *(f"{rate:.0f}" for rate in rate_of)] for name, rate_of in rates.items()]
        print(table(["MB per second of CPU", "hiding", "is_secret_value", "the keywords as one regex"], rows))
    if options.show:
        print("\n".join((*missed, *shown)), file=sys.stderr)
    kept = (
        figures["found"] >= BARS["found"]
        and figures["alarms_per_mb"] <= BARS["alarms_per_mb"]
        and figures["output_mb_s"] >= BARS["output_mb_s"]
    )
    return int(options.check and not kept)


if __name__ == "__main__":
    sys.exit(main())
