"""Putting one realistic fault at a time into libraries whose tests notice.

The same seed gives the same faults: kinds are dealt out by their weights, functions and places are drawn among those
that the library's suite runs, and a fault is kept if the suite still collects and at least one test but at most three
in ten fail. So none is equivalent, none is a wreck, and nothing is chosen by whether it can be repaired.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import platform
import random
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import libraries
from faults import KINDS, Place, written
from libraries import Library
from program import Callable_, Program

TOTAL = 65
MOST_FAILING = 0.3
TRIES = 10  # faults of one kind in one library, before another kind is drawn
OTHER_KINDS = 8
CACHE = libraries.ROOT / ".bench" / "mend-libraries"


class Fault(NamedTuple):
    """A change of a file's text: `text` in the place of the characters from `start` to `end`."""

    kind: str
    function: str
    line: int
    start: int
    end: int
    text: str


class Bug(NamedTuple):
    """A fault in a library, with the lines it changes and how many of the suite's tests notice."""

    library: str
    file: str
    kind: str
    function: str
    line: int
    start: int
    end: int
    text: str
    before: str
    after: str
    failing: int
    tests: int

    @property
    def name(self) -> str:
        return f"{self.library}:{self.file}:{self.line}:{self.kind}"

    def seeded(self, text: str) -> str:
        """Return the file with the bug in it, from the file without."""
        return text[: self.start] + self.text + text[self.end :]


# --- faults of a function


def faults_of(program: Program, function: Callable_, kind: str) -> list[Fault]:
    """Return the faults of a kind that the function can have, each resulting text once."""
    found = {
        program.with_text(fault.start, fault.end, fault.text): fault
        for node, text in thoughts_of(program, function, kind)
        if (fault := fault_of(program, function, kind, node, text)) is not None
    }
    return list(found.values())


def thoughts_of(program: Program, function: Callable_, kind: str) -> list[tuple[ast.AST, str]]:
    """Return the nodes that a kind would change, with the new text; not all of them come to something."""
    place = Place(program, function)
    return [thought for node in place.nodes for thought in KINDS[kind].look(place, node)]


def fault_of(program: Program, function: Callable_, kind: str, node: ast.AST, text: str) -> Fault | None:
    """Return the fault of `text` in place of `node`; None where the file would be no Python or say something else."""
    changed = _applied(program, node, text)
    if changed is None or not _is_python(program.with_text(*changed)):
        return None
    return Fault(kind, program.qualified(function), getattr(node, "lineno", function.lineno), *changed)


def _applied(program: Program, node: ast.AST, text: str) -> tuple[int, int, str] | None:
    """Return the stretch of the file to be replaced, and by what; None where the text would say something else."""
    if isinstance(node, ast.stmt) and text in ("", "swap", "outdent", "indent"):
        return _moved(program, node, text)
    start, end = program.span(node)
    if not isinstance(node, ast.expr) or isinstance(node, ast.Slice):
        return None if program.text[start:end] == text else (start, end, text)
    for candidate in (text, f"({text})"):
        if _says(program, node, candidate):
            return start, end, candidate
    return None


def _says(program: Program, node: ast.expr, text: str) -> bool:
    """Return whether `text` in the place of `node` changes that expression and nothing around it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            meant = ast.parse(f"({text}\n)", mode="eval").body
            tree = ast.parse(program.with_text(*program.span(node), text))
        except (SyntaxError, ValueError):
            return False
    steps = _steps(program, node)
    found = _follow(tree, steps)
    if found is None or ast.dump(found) != ast.dump(meant) or ast.dump(meant) == ast.dump(node):
        return False
    expected = copy.deepcopy(program.tree)
    for each in (expected, tree):
        _replace(each, steps)
    return ast.dump(expected) == ast.dump(tree)


def _steps(program: Program, node: ast.AST) -> list[tuple[str, int | None]]:
    steps: list[tuple[str, int | None]] = []
    while node in program.parent:
        above, field = program.parent[node], program.field[node]
        value = getattr(above, field)
        at = next((n for n, each in enumerate(value) if each is node), None) if isinstance(value, list) else None
        steps.append((field, at))
        node = above
    return steps[::-1]


def _follow(tree: ast.AST, steps: list[tuple[str, int | None]]) -> ast.AST | None:
    for field, at in steps:
        value = getattr(tree, field, None)
        if at is not None:
            value = value[at] if isinstance(value, list) and at < len(value) else None
        if not isinstance(value, ast.AST):
            return None
        tree = value
    return tree


def _replace(tree: ast.AST, steps: list[tuple[str, int | None]]) -> None:
    above = _follow(tree, steps[:-1])
    field, at = steps[-1]
    if at is None:
        setattr(above, field, ast.Constant(None))
    else:
        getattr(above, field)[at] = ast.Constant(None)


def _moved(program: Program, node: ast.stmt, how: str) -> tuple[int, int, str] | None:
    above = program.parent[node]
    block = getattr(above, program.field[node])
    lines = program.lines_of(node)
    if lines is None or not isinstance(block, list):
        return None
    start, end = lines
    text = program.text[start:end]
    margin = text[: len(text) - len(text.lstrip())]
    if how == "":
        is_else = program.field[node] == "orelse" and isinstance(above, ast.If)
        return start, end, f"{margin}pass\n" if len(block) == 1 and not is_else else ""
    if how == "swap":
        after = program.lines_of(block[block.index(node) + 1])
        return (start, after[1], program.text[slice(*after)] + text) if after and after[0] == end else None
    if not isinstance(above, ast.stmt) or "\n" in text.rstrip("\n"):
        return None
    if how == "outdent":
        return start, end, " " * above.col_offset + text.lstrip()
    before = block[block.index(node) - 1]
    inner = before.body[-1] if isinstance(before, (ast.For, ast.While, ast.If)) and not before.orelse else None
    return (start, end, " " * inner.col_offset + text.lstrip()) if inner is not None else None


def _is_python(text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(text, "seeded", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return False
    return True


# --- bugs of a library


def dealt(seed: int, total: int = TOTAL) -> list[str]:
    """Return `total` kinds, as many of each as its weight says, shuffled."""
    whole = sum(kind.weight for kind in KINDS.values())
    shares = {name: total * kind.weight / whole for name, kind in KINDS.items()}
    counts = {name: int(share) for name, share in shares.items()}
    rest = sorted(shares, key=lambda name: counts[name] - shares[name])
    for name in rest[: total - sum(counts.values())]:
        counts[name] += 1
    kinds = [name for name, count in counts.items() for _ in range(count)]
    random.Random(f"kinds {seed}").shuffle(kinds)
    return kinds


class Seeder:
    """The bugs of one library, made when they are asked for and kept on disk."""

    def __init__(self, library: Library, kinds: list[str], seed: int) -> None:
        self._library = library
        self._kinds = kinds
        self._seed = seed
        self._file = CACHE / f"bugs-{library.name}-{self._key()}.json"
        self._bugs: list[Bug] = []
        if self._file.is_file():
            self._bugs = [Bug(*fields) for fields in json.loads(self._file.read_text())]
        self._baseline: libraries.Outcome | None = None
        self._reached: dict[str, set[int]] = {}
        self._programs: dict[str, Program] = {}

    def bugs(self, count: int) -> list[Bug]:
        """Return the first `count` bugs, fewer where the library has no more. Raises `RuntimeError` for a red suite."""
        while len(self._bugs) < min(count, len(self._kinds)):
            bug = self._next(len(self._bugs))
            if bug is None:
                break
            self._bugs.append(bug)
            CACHE.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self._bugs, indent=1))
        return self._bugs[:count]

    def _key(self) -> str:
        digest = hashlib.sha256(repr((self._library, self._kinds, self._seed, platform.python_version())).encode())
        for name in ("program.py", "faults.py", "seeding.py"):
            digest.update((Path(__file__).parent / name).read_bytes())
        return digest.hexdigest()[:12]

    def _next(self, index: int) -> Bug | None:
        if self._baseline is None:
            self._look()
        chance = random.Random(f"{self._seed} {self._library.name} {index}")
        weights = [kind.weight for kind in KINDS.values()]
        for kind in (self._kinds[index], *chance.choices(list(KINDS), weights, k=OTHER_KINDS)):
            for tried, (file, fault) in enumerate(self._drawn(kind, chance)):
                if tried == TRIES:
                    break
                bug = self._kept(file, fault)
                if bug is not None:
                    return bug
        return None

    def _look(self) -> None:
        """Run the suite as it is: it must be green twice, and says which lines it reaches."""
        with libraries.copy(self._library) as tree:
            self._baseline = libraries.suite(self._library, tree, limit_s=120)
            again = libraries.suite(self._library, tree, limit_s=120)
            if not self._baseline.tests or self._baseline.failed or again.tests != self._baseline.tests:
                raise RuntimeError(f"{self._library.name}: its own suite is not green, or not the same twice")
            self._reached = reached(self._library, tree)
        for file in self._reached:
            self._programs[file] = Program((self._library.tree / file).read_text(encoding="utf-8"))

    def _drawn(self, kind: str, chance: random.Random) -> Iterator[tuple[str, Fault]]:
        """Yield faults of a kind, each of another function that has no bug yet, in a drawn order."""
        taken = {(bug.file, bug.function) for bug in self._bugs}
        functions = [(file, each) for file, program in self._programs.items() for each in program.functions()]
        chance.shuffle(functions)
        for file, function in functions:
            program = self._programs[file]
            inside = range(function.body[0].lineno, (function.end_lineno or function.lineno) + 1)
            if (file, program.qualified(function)) in taken or self._reached[file].isdisjoint(inside):
                continue
            thoughts = thoughts_of(program, function, kind)
            chance.shuffle(thoughts)
            for node, text in thoughts:
                if {node.__dict__.get("lineno"), node.__dict__.get("end_lineno")} & self._reached[file]:
                    fault = fault_of(program, function, kind, node, text)
                    if fault is not None:
                        yield file, fault
                        break

    def _kept(self, file: str, fault: Fault) -> Bug | None:
        """Return the bug if the tests notice it, and not too many."""
        assert self._baseline is not None and self._baseline.tests is not None
        before = self._programs[file].text
        after = before[: fault.start] + fault.text + before[fault.end :]
        with libraries.copy(self._library, {file: after}) as tree:
            outcome = libraries.suite(self._library, tree, limit_s=10 + 5 * self._baseline.seconds)
        total = len(self._baseline.tests)
        if outcome.tests is None or outcome.tests.keys() != self._baseline.tests.keys():
            return None
        if not 0 < len(outcome.failed) <= MOST_FAILING * total:
            return None
        lines = _lines(before, fault)
        return Bug(
            self._library.name, file, fault.kind, fault.function, fault.line, fault.start, fault.end, fault.text,
            *lines, len(outcome.failed), total,
        )  # fmt: skip


def _lines(text: str, fault: Fault) -> tuple[str, str]:
    """Return the lines that a fault changes, before and after, each as one line."""
    start = text.rfind("\n", 0, fault.start) + 1
    end = text.find("\n", max(fault.start, fault.end - 1))
    rest = text[fault.end : end] if fault.end <= end else ""
    return written(text[start:end]), written(text[start : fault.start] + fault.text + rest)


def reached(library: Library, tree: Path) -> dict[str, set[int]]:
    """Return the lines that the suite runs, of the files that faults may be put into."""
    data, report = tree.parent / "coverage", tree.parent / "coverage.json"
    start = [libraries.python(), "-B", "-m", "coverage"]
    run = [*start, "run", f"--data-file={data}", f"--source={tree}", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = libraries.environment(library, tree)
    for command in (run, [*start, "json", "-q", f"--data-file={data}", "-o", str(report), "--ignore-errors"]):
        done = subprocess.run(
            libraries.boxed(command, tree), cwd=tree, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=300, check=False,
        )  # fmt: skip
    if not report.is_file():
        raise RuntimeError(f"{library.name}: no coverage: {done.stdout.decode(errors='replace')[-300:]}")
    files = json.loads(report.read_text())["files"]
    return {name: set(files[name]["executed_lines"]) for name in library.sources() if name in files}
