"""The report as one page: figures and plots are in it as they are, trials packed, and unpacked when they are opened.

Everything that an agent or a model wrote is packed data: deflated, in base64, and put on the screen as text. Nothing
but the page's own script and style may run or load, by a policy that names their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from lathe.evals.record import Trial
from lathe.evals.report.document import Report
from lathe.evals.report.evidence import BARE, FULL, LEAN, Evidence
from lathe.evals.report.plots import plots
from lathe.evals.report.wording import dollars, seconds, share, spread, tokens

PAGE_MOST = 32 * 2**20
"""Bytes that all trials may take in the page; past its part of that, a trial is shown with less."""
_BEST = 6
"""How many times smaller than its JSON a trial may get at best: what is larger is not packed to see."""
_ALWAYS = 24 * 2**10
_PARTS = Path(__file__).with_name("assets")
_SCRIPTS = ("screen.js", "player.js", "trial.js", "table.js")


def as_page(report: Report, folder: Path) -> str:
    """Return the page of a run whose trials' files lie below `folder`."""
    style = (_PARTS / "report.css").read_text("utf-8")
    script = "\n".join(["'use strict'; (() => {", *((_PARTS / n).read_text("utf-8") for n in _SCRIPTS), "})()"])
    policy = (
        f"default-src 'none'; script-src 'sha256-{_hash(script)}'; style-src 'sha256-{_hash(style)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    title = f"{report.plan.dataset_name} · {report.plan.agent}"
    packed, index = _packed(report, folder), _index(report)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style></head><body>",
            *_body(report),
            f'<script type="application/octet-stream" id="index">{_pack(msgspec.json.encode(index))}</script>',
            *packed,
            f"<script>{script}</script></body></html>",
            "",
        ]
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _pack(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 6)).decode()


def _packed(report: Report, folder: Path) -> Iterator[str]:
    """Yield every trial's evidence, packed. Each may take its part of what the ones before it left."""
    left, count = PAGE_MOST, len(report.trials)
    for number, trial in enumerate(report.trials):
        most = max(left // (count - number), _ALWAYS)
        evidence = Evidence(folder / "trials" / trial.id, trial)
        for limits in (FULL, LEAN, BARE):
            found = evidence.collect(limits)
            if limits is not FULL:
                found["cut"].append(
                    f"Shown in a {limits.name} form, or the page would be too large; the trial's folder has the whole."
                )
            plain = msgspec.json.encode(found)
            if limits is not BARE and len(plain) > most * _BEST:
                continue
            data = _pack(plain)
            if len(data) <= most:
                break
        left -= len(data)
        yield f'<script type="application/octet-stream" id="trial-{number}">{data}</script>'


def _index(report: Report) -> dict[str, Any]:
    return {
        "attempts": report.plan.attempts,
        "tasks": [[row.task, row.category, row.mean, list(row.trials)] for row in report.tasks],
        "trials": [_row(trial) for trial in report.trials],
    }


def _row(trial: Trial) -> dict[str, Any]:
    row = msgspec.to_builtins(trial)
    return {name: value for name, value in row.items() if value not in ("", [], {}, ())} | {"passed": trial.passed}


def _body(report: Report) -> Iterator[str]:
    plan = report.plan
    made = datetime.fromtimestamp(plan.created / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC") if plan.created else ""
    attempts = f"{plan.attempts} attempt{'s' * (plan.attempts != 1)} each"
    facts = [
        ("Agent", plan.agent + "".join(f" {name}={value}" for name, value in plan.agent_options.items())),
        ("Model", plan.model or "none"),
        ("Data set", f"{plan.dataset_name} {plan.dataset_version}".strip()),
        ("Plan", f"{len(plan.tasks)} task{'s' * (len(plan.tasks) != 1)}, {attempts}"),
        ("Environment", plan.environment or "unknown"),
        ("Run", " · ".join(filter(None, (plan.id, made)))),
        ("Lathe", plan.lathe or "unknown"),
    ]
    yield '<header class="top"><a class="mark" href="#/">Lathe evaluation</a>'
    yield f"<h1>{escape(plan.dataset_name or plan.dataset)}</h1><dl class=facts>"
    yield from (f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    yield "</dl></header><noscript><p class=note>This page needs JavaScript for its tables; report.md needs none.</p>"
    yield '</noscript><main id="run"><section class="tiles">'
    yield from _tiles(report)
    yield "</section>"
    if report.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
        yield f'<section class="notes" aria-label="What belongs beside these figures"><ul>{notes}</ul></section>'
    yield '<section class="plots">'
    yield from plots(report)
    yield '</section><section id="list"></section></main><main id="trial" hidden></main>'


def _tiles(report: Report) -> Iterator[str]:
    one = report.summary
    low = f"95 % interval {spread(one.interval)}" if one.mean is not None else "no trial counts"
    yield _tile("Mean reward", share(one.mean), low, "lead")
    part = share(one.passed / one.scored) if one.scored else "none"
    yield _tile("Passed", f"{one.passed} of {one.scored}", f"{part} of the trials that count")
    most = max(one.pass_at, default=0)
    if most > 1:
        yield _tile(f"pass@{most}", share(one.pass_at[most].mean), f"pass^{most} {share(one.pass_all[most].mean)}")
    alarm = "bad" if one.faults else ""
    yield _tile("Faults", str(one.faults), "not the agent's; never counted", alarm)
    flagged = one.flagged.count
    yield _tile("Flagged", str(flagged), f"of {one.flagged.of} trials, by the audit", "warn" if flagged else "")
    swapped = one.fallback.count
    yield _tile("Substituted", str(swapped), "another model served", "warn" if swapped else "")
    yield _tile("Cost", dollars(one.cost.usd), f"{tokens(one.cost.input_tokens + one.cost.output_tokens)} tokens")
    mean = one.times.total / one.trials if one.trials else 0.0
    yield _tile("Time", seconds(one.times.total), f"{seconds(mean)} a trial")


def _tile(name: str, value: str, more: str, kind: str = "") -> str:
    return (
        f'<div class="tile {kind}"><span>{escape(name)}</span><strong>{escape(value)}</strong>'
        f"<small>{escape(more)}</small></div>"
    )
