"""Whether a repair is the original again: by its tree, or because nothing tells the two apart."""

from __future__ import annotations

import ast
import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import libraries
from libraries import Library
from program import Function, Program

REPLAY = Path(__file__).resolve().parent / "replay.py"
FEWEST_CALLS = 10  # fewer that can be compared say nothing
Replayed = dict[str, list[list[str]]]


class Judgement(NamedTuple):
    """`verdict` is exact, equivalent, plausible only or not plausible; `why` says what it rests on."""

    verdict: str
    why: str


def judge(library: Library, repaired: dict[str, str]) -> Judgement:
    """Judge the repaired texts of a library's files, by path."""
    original = {file: (library.tree / file).read_text(encoding="utf-8") for file in repaired}
    with libraries.copy(library, repaired) as tree:
        outcome = libraries.suite(library, tree, limit_s=180)
        if outcome.tests is None or outcome.failed:
            return Judgement("not plausible", f"{len(outcome.failed)} tests fail in a fresh run")
        if all(canonical(text) == canonical(original[file]) for file, text in repaired.items()):
            return Judgement("exact", "the same tree as the original")
        names = [f"{file}:{name}" for file, text in repaired.items() for name in differing(original[file], text)]
        if any(name.endswith(":") for name in names):
            return Judgement("plausible only", "it differs outside functions")
        return _compared(library, tree, names)


def _compared(library: Library, repaired: Path, names: list[str]) -> Judgement:
    with libraries.copy(library) as original:
        notes = original.parent / "calls.pickle"
        _replay(library, original, ["record", str(notes), *names], limit_s=300)
        if not notes.is_file():
            return Judgement("plausible only", "the calls of its functions could not be noted")
        first, second = (_calls(library, original, notes, str(turn)) for turn in (1, 2))
        (repaired.parent / notes.name).write_bytes(notes.read_bytes())
        third = _calls(library, repaired, repaired.parent / notes.name, "3")
    compared = 0
    for name in names:
        for one, two, three in zip(first.get(name, ()), second.get(name, ()), third.get(name, ()), strict=False):
            if one == two and one[:2] == three[:2]:
                compared += 1
                if one[2] != three[2]:
                    return Judgement("plausible only", f"{name} of {one[1][:160]}: {one[2][:160]} != {three[2][:160]}")
    if compared < FEWEST_CALLS * len(names):
        return Judgement("plausible only", f"only {compared} calls could be compared")
    return Judgement("equivalent", f"{compared} calls cannot tell it from the original")


def _calls(library: Library, tree: Path, notes: Path, turn: str) -> Replayed:
    out = tree.parent / f"outcomes-{turn}.json"
    _replay(library, tree, ["calls", str(notes), str(out)], limit_s=200)
    found: Replayed = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    return found


def _replay(library: Library, tree: Path, words: list[str], *, limit_s: float) -> None:
    command = libraries.boxed([libraries.python(), "-B", str(REPLAY), *words], tree)
    environment = libraries.environment(library, tree)
    try:
        subprocess.run(
            command,
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return


def differing(original: str, repaired: str) -> list[str]:
    """Return the outermost functions that differ, by qualified name; "" for what differs outside functions."""
    first, second = _by_name(original), _by_name(repaired)
    names = [name for name in first if first[name] != second.get(name)]
    return names + [name for name in second if name not in first]


def _by_name(text: str) -> dict[str, str]:
    program = Program(text)
    functions = {program.qualified(function): function for function in program.functions()}
    found = {name: canonical(ast.unparse(function)) for name, function in functions.items()}
    for function in functions.values():
        function.body = [ast.Pass()]  # what is left is compared whole: a default is not seen in the arguments of a call
    found[""] = ast.dump(program.tree)
    return found


# --- one form for what means the same


def canonical(text: str) -> str:
    """Return the program's tree in one form for the ways of writing that Python itself holds for equal."""
    tree = _Canonical().visit(ast.parse(text))
    return ast.dump(tree)


_NEGATED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Gt: ast.Lt, ast.GtE: ast.LtE}
_LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)


class _Canonical(ast.NodeTransformer):
    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        inner = node.operand
        if isinstance(node.op, ast.Not) and isinstance(inner, ast.Compare) and len(inner.ops) == 1:
            other = _NEGATED.get(type(inner.ops[0]))
            if other is not None:
                return self.visit_Compare(ast.Compare(inner.left, [other()], inner.comparators))
        if isinstance(node.op, ast.USub) and isinstance(inner, ast.Constant) and isinstance(inner.value, (int, float)):
            return ast.Constant(-inner.value)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if len(node.ops) != 1:
            return node
        sign, left, right = node.ops[0], node.left, node.comparators[0]
        if type(sign) in _MIRRORED:
            return ast.Compare(right, [_MIRRORED[type(sign)]()], [left])
        if isinstance(sign, (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)):
            left, right = sorted((left, right), key=ast.dump)
        return ast.Compare(left, [sign], [right])

    def visit_Slice(self, node: ast.Slice) -> ast.AST:
        self.generic_visit(node)
        zero = isinstance(node.lower, ast.Constant) and node.lower.value == 0
        return ast.Slice(None, node.upper, None) if zero and node.step is None else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        is_range = isinstance(node.func, ast.Name) and node.func.id == "range" and len(node.args) == 2
        if is_range and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0:
            node.args = node.args[1:]
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        if node.orelse and isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not):
            node = ast.If(node.test.operand, node.orelse, node.body)
        inner = node.body[0]
        if len(node.body) == 1 and isinstance(inner, ast.If) and not node.orelse and not inner.orelse:
            values = [part for test in (node.test, inner.test) for part in _parts(test)]
            node = ast.If(ast.BoolOp(ast.And(), values), inner.body, [])
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        return ast.Return(None) if isinstance(node.value, ast.Constant) and node.value.value is None else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block:
                setattr(node, name, self._block(node, name, block))
        return node

    def _block(self, node: ast.AST, name: str, block: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for statement in block:
            if isinstance(statement, ast.If) and statement.orelse and isinstance(statement.body[-1], _LEAVES):
                found += [ast.If(statement.test, statement.body, []), *statement.orelse]
            else:
                found.append(statement)
        found = [each for each in found if not isinstance(each, ast.Pass)]
        if isinstance(node, Function) and found and isinstance(found[-1], ast.Return) and found[-1].value is None:
            found.pop()
        if isinstance(node, (ast.For, ast.While)) and name == "body" and found and isinstance(found[-1], ast.Continue):
            found.pop()
        return found or [ast.Pass()]


def _parts(test: ast.expr) -> list[ast.expr]:
    return list(test.values) if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
