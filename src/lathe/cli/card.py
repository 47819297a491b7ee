"""`lathe card`: write a system card from runs, and verify one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lathe.protocol.errors import ConfigError


def main(argv: list[str]) -> int:
    """Run `lathe card` and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="lathe card",
        description="Classify a model by what its evaluations measured, write its system card, and the safeguards that "
        "a gateway is to hold it to.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser(
        "build",
        help="write the card of a model",
        description="Write the card of a model from runs of lathe eval: HTML, Markdown, JSON, and safeguards.json for "
        "lathe serve --safeguards.",
    )
    build.add_argument("runs", nargs="+", metavar="RUN", type=Path, help="the folder of a run")
    build.add_argument("--model", required=True, metavar="NAME", help="the model, or the agent that asks none")
    build.add_argument("--out", required=True, metavar="DIR", type=Path, help="where the card is written")
    build.add_argument(
        "--evidence",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a file that a benchmark (--json) or /guard/report wrote; may be given several times",
    )
    build.add_argument("--served-as", default="", metavar="NAME", help="what a gateway calls the model, if not NAME")
    build.add_argument(
        "--fallback",
        metavar="NAME",
        action="append",
        default=[],
        help="a model that may be served in its place where the classification lets only named ones be",
    )
    build.add_argument("--thresholds", metavar="FILE", type=Path, help="thresholds of your own")
    verify = commands.add_parser(
        "verify",
        help="compute a card anew, and say what differs",
        description="Compute a card anew from the journals of its runs. Exit code 1, with a sentence for each thing "
        "that differs.",
    )
    verify.add_argument("card", metavar="DIR", type=Path, help="the folder of the card")
    options = parser.parse_args(argv)
    try:
        import lathe.gateway.safeguards  # noqa: F401 - to say in one sentence what is missing
    except ImportError as error:
        raise ConfigError(
            f"A card needs more than is installed ({error.name}).", hint="pip install 'lathe[gateway]'"
        ) from None
    return _build(options) if options.command == "build" else _verify(options)


def _build(options: argparse.Namespace) -> int:
    from lathe.card.build import build_card
    from lathe.card.figures import SHOWN_DOUBT, SHOWN_STATUS
    from lathe.store.journal import now_ms

    of = build_card(
        options.runs,
        options.out,
        model=options.model,
        issued=now_ms(),
        evidence=options.evidence,
        served_as=options.served_as,
        fallbacks=options.fallback,
        thresholds=options.thresholds,
    )
    for one in of.classification.categories:
        print(f"{one.category.title}: {SHOWN_STATUS[one.status]}")
    for reading in of.readings:
        if reading.doubts:
            doubts = ", ".join(f"{count} {SHOWN_DOUBT[doubt]}" for doubt, count in reading.doubts.items())
            print(f"lathe: in doubt on {reading.dataset}: {doubts}", file=sys.stderr)
    print(options.out / "card.html")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from lathe.card.verify import verify_card
    from lathe.store.journal import now_ms

    wrong = verify_card(options.card, now=now_ms())
    for sentence in wrong:
        print(sentence)
    if not wrong:
        print(f"{options.card} is what its journals give.")
    return 1 if wrong else 0
