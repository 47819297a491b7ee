"""The plots of a run, as SVG inside the page: colours come from its style, so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from statistics import median

from lathe.evals.record import Trial
from lathe.evals.report.document import Report, stages
from lathe.evals.report.wording import dollars, seconds, share, spread, tokens
from lathe.evals.stats.passing import Estimate

_WIDTH = 420
_LEFT = 142
_RIGHT = 14
_ROW = 26
_MOST_ROWS = 14
_PHASES = ("build", "start", "model", "tool", "agent", "verify")


def plots(report: Report) -> Iterator[str]:
    """Yield the plots that say something of this run, each in a frame with its title."""
    yield _frame("Score with its interval", _scores(report), "Mean reward; the line is the 95 % interval over tasks.")
    if len(report.summary.pass_at) > 1:
        yield _frame("pass@k and pass^k", _passing(report), "One of k attempts passes; all of k do. Bands: 95 %.")
    kinds = sorted({trial.category for trial in report.trials})
    if len(kinds) > 1:
        yield _frame("Outcomes by category", _outcomes(report.trials, kinds), _key(_OUTCOMES))
    timed = [trial for trial in report.trials if trial.times.total > 0]
    if timed:
        shown = [name for name in _PHASES if any(dict(_time_parts(trial))[name] >= 0.05 for trial in timed)]
        yield _frame("Time of each trial", _bars(timed, _time_parts, seconds), _key([(name, name) for name in shown]))
    if any(trial.cost.input_tokens or trial.cost.output_tokens for trial in report.trials):
        yield _cost(report.trials)
    if failed := stages(report.trials):
        yield _frame("Faults by stage", _counts(failed), "Every one, also of tries that were repeated.")


def _frame(title: str, drawing: str, caption: str) -> str:
    said = caption if caption.startswith("<") else escape(caption)
    return f"<figure><h2>{escape(title)}</h2>{drawing}<figcaption>{said}</figcaption></figure>"


def _key(names: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<span class="key k-{kind}">{escape(name)}</span>' for kind, name in names)


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">' + "".join(parts) + "</svg>"
    )


def _at(value: float) -> float:
    return _LEFT + value * (_WIDTH - _LEFT - _RIGHT)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>'


def _short(text: str, most: int = 22) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _axis(bottom: float) -> list[str]:
    """Return lines and labels of an axis from 0 to 100 %."""
    return [
        f'<line x1="{_at(v):.1f}" x2="{_at(v):.1f}" y1="6" y2="{bottom:.1f}" class="grid"/>'
        + _text(_at(v), bottom + 15, f"{v * 100:.0f}", "tick mid")
        for v in (0, 0.25, 0.5, 0.75, 1)
    ]


def _scores(report: Report) -> str:
    one = report.summary
    rows = [("all", one.mean, one.interval, one.tasks)]
    if len(one.categories) > 1:
        rows += [(name, group.mean, group.interval, group.tasks) for name, group in one.categories.items()]
    rows = rows[: _MOST_ROWS + 1]
    bottom = 10.0 + _ROW * len(rows)
    parts = _axis(bottom)
    for number, (name, mean, interval, tasks) in enumerate(rows):
        y = 10 + _ROW * (number + 0.5)
        parts.append(_text(_LEFT - 10, y + 4, _short(name), "end" if number else "end strong"))
        if mean is None:
            parts.append(_text(_at(0) + 6, y + 4, "no trial counts", "soft"))
            continue
        low, high = (min(max(v, 0.0), 1.0) for v in (interval.low, interval.high))
        said = f"{name}: {share(mean)}, {spread(interval)}, {tasks} tasks"
        parts.append(
            f'<g class="whisker"><title>{escape(said)}</title>'
            f'<line x1="{_at(low):.1f}" x2="{_at(high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{_at(min(max(mean, 0.0), 1.0)):.1f}" cy="{y}" r="{5.5 if number == 0 else 4.5}"/></g>'
        )
    return _svg(bottom + 22, parts, f"Mean reward {share(one.mean)}, {spread(one.interval)}")


def _passing(report: Report) -> str:
    curves = (("pass-at", report.summary.pass_at), ("pass-all", report.summary.pass_all))
    ks = sorted(report.summary.pass_at)
    left, top, bottom, right = 40.0, 12.0, 168.0, _WIDTH - 70.0
    x = {k: left + (right - left) * number / (len(ks) - 1) for number, k in enumerate(ks)}

    def y(value: float) -> float:
        return bottom - min(max(value, 0.0), 1.0) * (bottom - top)

    parts = [
        f'<line x1="{left}" x2="{right}" y1="{y(v):.1f}" y2="{y(v):.1f}" class="grid"/>'
        + _text(left - 7, y(v) + 4, f"{v * 100:.0f}", "tick end")
        for v in (0, 0.5, 1)
    ]
    parts += [_text(x[k], bottom + 17, f"k={k}", "tick mid") for k in ks]
    for kind, curve in curves:
        parts += _curve(kind, curve, x, y)
    parts += _labels([(kind, curve[ks[-1]].mean) for kind, curve in curves], x[ks[-1]] + 10, y)
    return _svg(bottom + 24, parts, "pass@k and pass^k by k")


def _curve(kind: str, curve: dict[int, Estimate], x: dict[int, float], y: Callable[[float], float]) -> Iterator[str]:
    points = [(k, one.mean, one) for k, one in sorted(curve.items()) if one.mean is not None]
    if not points:
        return
    upper = [f"{x[k]:.1f},{y(one.interval.high):.1f}" for k, _, one in points]
    lower = [f"{x[k]:.1f},{y(one.interval.low):.1f}" for k, _, one in reversed(points)]
    yield f'<polygon class="band {kind}" points="{" ".join(upper + lower)}"/>'
    yield f'<polyline class="curve {kind}" points="{" ".join(f"{x[k]:.1f},{y(m):.1f}" for k, m, _ in points)}"/>'
    name = "pass@k" if kind == "pass-at" else "pass^k"
    for k, mean, one in points:
        said = f"{name[:-1]}{k}: {share(mean)}, {spread(one.interval)}, {one.tasks} tasks"
        yield f'<circle class="dot {kind}" cx="{x[k]:.1f}" cy="{y(mean):.1f}" r="4"><title>{said}</title></circle>'


def _labels(ends: Sequence[tuple[str, float | None]], x: float, y: Callable[[float], float]) -> Iterator[str]:
    """Yield the names of the curves at their ends, one below the other where they end together."""
    above = None
    for (kind, mean), name in zip(ends, ("pass@k", "pass^k"), strict=True):
        if mean is not None:
            at = y(mean) + 4 if above is None else max(y(mean) + 4, above + 13)
            above = at
            yield _text(x, at, name, f"label {kind}")


_OUTCOMES = [("passed", "passed"), ("partial", "partial"), ("failed", "failed"), ("fault", "fault")]


def outcome(trial: Trial) -> str:
    """Return the outcome of a trial in one word: passed, partial, failed, or fault."""
    if trial.reward is None:
        return "fault"
    return "passed" if trial.passed else "partial" if trial.reward > 0 else "failed"


def _outcomes(trials: Sequence[Trial], kinds: Sequence[str]) -> str:
    parts: list[str] = []
    for number, kind in enumerate(kinds[:_MOST_ROWS]):
        mine = [outcome(trial) for trial in trials if trial.category == kind]
        y, done = 8 + _ROW * number, 0.0
        parts.append(_text(_LEFT - 10, y + 15, _short(kind or "none"), "end"))
        for name, _ in _OUTCOMES:
            part = mine.count(name) / len(mine)
            if part:
                said = f"{kind}: {mine.count(name)} of {len(mine)} {name}"
                parts.append(_bar((_at(done), y + 3), (part * (_WIDTH - _LEFT - _RIGHT), 16), name, said))
            done += part
    return _svg(12 + _ROW * len(kinds[:_MOST_ROWS]), parts, "Outcomes by category")


def _bar(place: tuple[float, float], size: tuple[float, float], kind: str, said: str) -> str:
    (x, y), (width, height) = place, size
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(width, 0.3):.2f}" height="{max(height, 0.3):.2f}"'
        f' class="f-{kind}"><title>{escape(said)}</title></rect>'
    )


def _time_parts(trial: Trial) -> list[tuple[str, float]]:
    times = trial.times
    own = max(0.0, times.agent - times.model - times.tool)
    parts = {"build": times.build, "start": times.start, "model": times.model, "tool": times.tool}
    parts |= {"agent": own, "verify": times.verify}
    return [(name, parts[name]) for name in _PHASES]


def _cost(trials: Sequence[Trial]) -> str:
    if any(trial.cost.usd is not None for trial in trials):
        priced = [trial for trial in trials if trial.cost.usd is not None]
        drawing = _bars(priced, lambda trial: [("cost", trial.cost.usd or 0.0)], dollars)
        return _frame("Cost of each trial", drawing, "US dollars, the dearest first.")

    def parts(trial: Trial) -> list[tuple[str, float]]:
        cost = trial.cost
        return [
            ("cached", cost.cached_tokens),
            ("read", cost.input_tokens - cost.cached_tokens),
            ("written", cost.output_tokens),
        ]

    key = _key([("cached", "read from a cache"), ("read", "read"), ("written", "written")])
    return _frame("Tokens of each trial", _bars(trials, parts, tokens), key)


def _bars(
    trials: Sequence[Trial], parts_of: Callable[[Trial], list[tuple[str, float]]], say: Callable[[float], str]
) -> str:
    """Draw a bar a trial, the largest first, its parts on top of each other."""
    left, top, bottom, right = 52.0, 10.0, 160.0, _WIDTH - 8.0
    stacked = sorted(((parts_of(trial), trial) for trial in trials), key=lambda one: -sum(v for _, v in one[0]))
    most = sum(value for _, value in stacked[0][0]) or 1.0
    step = min(24.0, (right - left) / len(stacked))
    parts = [
        f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        + _text(left - 7, y + 4, say(value), "tick end")
        for value in (0.0, most / 2, most)
        for y in [bottom - value / most * (bottom - top)]
    ]
    for number, (values, trial) in enumerate(stacked):
        total, y = sum(value for _, value in values), bottom
        for name, value in values:
            height = value / most * (bottom - top)
            if height < 0.05:
                continue
            y -= height
            said = f"{trial.id}: {say(total)}" + (f", {name} {say(value)}" if len(values) > 1 else "")
            parts.append(_bar((left + number * step, y), (step - min(3.0, step * 0.2), height), name, said))
    middle = median(sum(value for _, value in values) for values, _ in stacked)
    parts.append(_text(right, bottom + 17, f"{len(stacked)} trials, median {say(middle)}", "tick end"))
    return _svg(bottom + 24, parts, f"{len(stacked)} trials")


def _counts(counts: dict[str, int]) -> str:
    most, parts = max(counts.values()), []
    for number, (name, count) in enumerate(counts.items()):
        y = 8 + _ROW * number
        parts.append(_text(_LEFT - 10, y + 15, _short(name), "end"))
        width = count / most * (_WIDTH - _LEFT - 50)
        parts.append(_bar((_LEFT, y + 3), (width, 16), "fault", f"{name}: {count}"))
        parts.append(_text(_LEFT + width + 8, y + 15, str(count)))
    return _svg(12 + _ROW * len(counts), parts, "Faults by stage")
