"""Does the model of naturalness find the right repair among the candidates? With the baseline: the cost alone.

    python benchmarks/mend_natural.py [--bugs N] [--json] [--check]

Seeds simple bugs into code that the model was not trained on (this project's own, and installed packages that the
training leaves out), proposes edits for the statement with the bug, and looks where the one that gives the original
back stands. No test is run: what a suite would throw out is still there, so the figures are lower than in a search.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lathe.mend.natural import Natural
from lathe.mend.operators.propose import Proposer
from lathe.mend.operators.registry import Edit
from lathe.mend.operators.vocabulary import Vocabulary
from lathe.mend.source import SourceFile

ROOT = Path(__file__).parents[1]
HELD_OUT = ("hypothesis", "pathspec")
WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
BAR_AUC = 0.70
COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "in": "not in"}
SYMBOLS: dict[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is", ast.In: "in",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.And: "and", ast.Or: "or",
}  # fmt: skip
SWAPPED = {"+": "-", "-": "+", "*": "+", "//": "*", "and": "or", "or": "and"}
Bug = tuple[int, int, str, str]


def main() -> int:
    """Print the table; return 1 where `--check` finds the model not worth its file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bugs", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    groups = {name: measure(files, options.bugs) for name, files in held_out().items()}
    if options.json:
        print(json.dumps(groups, indent=1))
    else:
        for name, figures in groups.items():
            show(name, figures)
    worst = min(figures["auc"] for figures in groups.values())
    if options.check and worst < BAR_AUC:
        print(
            f"the original stands above a wrong edit in {worst:.0%} of pairs only (bar {BAR_AUC:.0%})", file=sys.stderr
        )
        return 1
    return 0


def held_out() -> dict[str, list[Path]]:
    """Return files that were not trained on, by where they come from."""
    found = {"lathe": sorted((ROOT / "src" / "lathe").rglob("*.py"))}
    for name in HELD_OUT:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            found[name] = sorted(Path(spec.submodule_search_locations[0]).rglob("*.py"))
    return found


def measure(files: list[Path], wanted: int) -> dict[str, float]:
    """Return the figures over `wanted` seeded bugs."""
    choose = random.Random(7)
    model = Natural.load()
    pairs: list[float] = []
    shares: list[float] = []
    seconds = scored = 0.0
    ranks: dict[float, list[float]] = {weight: [] for weight in WEIGHTS}
    missed = 0
    for source, at, original in seeded(files, choose, wanted):
        statement = at_offset(source, at)
        if statement is None:
            continue
        edits = list(Proposer(source, Vocabulary([source])).edits(statement))
        right = [edit for edit in edits if applied(source.text, edit) == original]
        if not right:
            missed += 1
            continue
        began = time.process_time()
        bits = dict(zip(edits, model.scores(source, edits), strict=True))
        seconds += time.process_time() - began
        scored += len(edits)
        best = min(right, key=lambda edit: edit.cost)
        others = [edit for edit in edits if edit not in right]
        shares.append(statistics.fmean(better(edit.cost - best.cost) for edit in others) if others else 1.0)
        pairs.append(statistics.fmean(better(bits[edit] - bits[best]) for edit in others) if others else 1.0)
        for weight in WEIGHTS:
            own = best.cost + weight * bits[best]
            above = [edit.cost + weight * bits[edit] - own for edit in others]
            ranks[weight].append(1 + sum(value < 0 for value in above) + 0.5 * sum(value == 0 for value in above))
    figures: dict[str, float] = {
        "bugs": len(pairs),
        "not_proposed": missed,
        "candidates": scored / max(1, len(pairs)),
        "microseconds": 1e6 * seconds / max(1.0, scored),
        "auc_cost": statistics.fmean(shares),
        "auc": statistics.fmean(pairs),
    }
    for weight, found in ranks.items():
        figures[f"top1@{weight}"] = statistics.fmean(rank < 1.75 for rank in found)
        figures[f"top5@{weight}"] = statistics.fmean(rank <= 5 for rank in found)
        figures[f"mrr@{weight}"] = statistics.fmean(1 / rank for rank in found)
    return figures


def better(difference: float) -> float:
    """Return 1 for a difference above 0, a half for none."""
    return 1.0 if difference > 0 else 0.5 if difference == 0 else 0.0


def show(name: str, figures: dict[str, float]) -> None:
    """Print one group."""
    print(
        f"{name}: {figures['bugs']:.0f} bugs, {figures['candidates']:.0f} candidates each "
        f"({figures['not_proposed']:.0f} more have no single edit), {figures['microseconds']:.0f} us a candidate"
    )
    print(
        f"  pairs with the original above a wrong edit: by cost {figures['auc_cost']:.1%}, by naturalness "
        f"{figures['auc']:.1%}"
    )
    print("  weight   first  in five  mean reciprocal rank")
    for weight in WEIGHTS:
        label = "cost only" if not weight else f"{weight:9}"
        print(
            f"  {label}{figures[f'top1@{weight}']:7.1%}{figures[f'top5@{weight}']:8.1%}{figures[f'mrr@{weight}']:10.3f}"
        )


def seeded(files: list[Path], choose: random.Random, wanted: int) -> Iterator[tuple[SourceFile, int, str]]:
    """Yield programs with a bug, where it is, and the program as it was."""
    every: list[tuple[Path, str, Bug]] = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        try:
            source = SourceFile(path.name, text)
        except SyntaxError:
            continue
        every += [(path, text, bug) for bug in bugs(source)]
    for path, text, (start, end, new, _) in choose.sample(every, min(wanted, len(every))):
        try:
            yield SourceFile(path.name, text[:start] + new + text[end:]), start, text
        except SyntaxError:
            continue


def bugs(source: SourceFile) -> Iterator[Bug]:
    """Yield simple mistakes in functions: start, end, wrong text, kind."""
    for function in ast.walk(source.tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        names = sorted({node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)} - {"self", "cls"})
        for statement in function.body:
            for node in ast.walk(statement):
                yield from mistakes(source, node, names)


def mistakes(source: SourceFile, node: ast.AST, names: list[str]) -> Iterator[Bug]:
    """Yield the mistakes that can be made at one node."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from operator(source, node.left, node.comparators[0], type(node.ops[0]), COMPARISONS, "comparison")
    elif isinstance(node, ast.BinOp):
        yield from operator(source, node.left, node.right, type(node.op), SWAPPED, "arithmetic")
    elif isinstance(node, ast.BoolOp):
        yield from operator(source, node.values[0], node.values[1], type(node.op), SWAPPED, "logic")
    elif isinstance(node, ast.Constant) and type(node.value) is int and abs(node.value) < 50:
        yield (*source.span(node), str(node.value + 1), "constant")
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names and len(names) > 1:
        yield (*source.span(node), names[(names.index(node.id) + 1) % len(names)], "variable")
    elif isinstance(node, ast.Call) and len(node.args) == 2 and not any(isinstance(a, ast.Starred) for a in node.args):
        (start, middle), (after, end) = source.span(node.args[0]), source.span(node.args[1])
        first, gap, second = source.text[start:middle], source.text[middle:after], source.text[after:end]
        if first != second:
            yield start, end, f"{second}{gap}{first}", "argument order"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        start, end = source.span(node)
        yield start, end, source.segment(node.operand), "negation"


def operator(
    source: SourceFile, left: ast.expr, right: ast.expr, kind: type[ast.AST], wrong: dict[str, str], name: str
) -> Iterator[Bug]:
    """Yield the other operator between two operands."""
    symbol = SYMBOLS.get(kind, "")
    start, end = source.span(left)[1], source.span(right)[0]
    if symbol in wrong and source.text[start:end].count(symbol) == 1:
        at = start + source.text[start:end].index(symbol)
        yield at, at + len(symbol), wrong[symbol], name


def at_offset(source: SourceFile, offset: int) -> ast.stmt | None:
    """Return the innermost statement around a place."""
    found: ast.stmt | None = None
    for node in ast.walk(source.tree):
        if isinstance(node, ast.stmt):
            start, end = source.span(node)
            if start <= offset <= end and (found is None or source.span(found)[0] <= start):
                found = node
    return found


def applied(text: str, edit: Edit) -> str:
    """Return the text with the edit in it."""
    return text[: edit.start] + edit.text + text[edit.end :]


if __name__ == "__main__":
    sys.exit(main())
