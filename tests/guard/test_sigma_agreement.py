"""Sigma rules mean here what pySigma, the format's own library, reads in them."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sigma.collection import SigmaCollection
from sigma.conditions import ConditionAND, ConditionNOT, ConditionOR
from sigma.types import SigmaCasedString, SigmaNumber, SigmaRegularExpression, SigmaString, SpecialChars

from lathe.guard.acts.monitor import RULES
from lathe.guard.acts.sigma import CATEGORIES, Rule, read_rule
from lathe.guard.acts.sigma_values import Fields

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from guard_acts import SIGMA, unpacked

TRIES = 40


@pytest.fixture(scope="module")
def pairs() -> Iterator[list[tuple[Rule, Any]]]:
    """Each rule as it is read here, and its conditions as pySigma reads them."""
    with unpacked(SIGMA if SIGMA.is_dir() else RULES) as folder:
        files = [*RULES.glob("*.yml"), *(one for kind in CATEGORIES for one in folder.rglob(f"{kind}/*.yml"))]
        read = SigmaCollection.load_ruleset([str(file) for file in files]).rules
        yield [
            (read_rule(one.source.path), [condition.parsed for condition in one.detection.parsed_condition])
            for one in read
        ]


def holds(node: Any, event: dict[str, str]) -> bool:
    if isinstance(node, ConditionNOT):
        return not holds(node.args[0], event)
    if isinstance(node, ConditionAND | ConditionOR):
        return (all if isinstance(node, ConditionAND) else any)(holds(one, event) for one in node.args)
    seen = event.get(node.field, "")
    if isinstance(node.value, SigmaNumber):
        return seen == str(node.value.number)
    if isinstance(node.value, SigmaRegularExpression):
        flags = sum(getattr(re, flag.name) for flag in node.value.flags)
        return re.search(str(node.value.regexp), seen, flags) is not None
    assert isinstance(node.value, SigmaString), node
    marks = {SpecialChars.WILDCARD_MULTI: ".*", SpecialChars.WILDCARD_SINGLE: "."}
    pattern = "".join(re.escape(one) if isinstance(one, str) else marks[one] for one in node.value.s)
    flags = re.DOTALL | (0 if isinstance(node.value, SigmaCasedString) else re.IGNORECASE)
    return re.fullmatch(pattern, seen, flags) is not None


def values(node: Any) -> Iterator[tuple[str, str]]:
    """Yield what a condition compares: the field, and a text that has what is asked for."""
    for one in getattr(node, "args", ()):
        yield from values(one)
    if isinstance(getattr(node, "value", None), SigmaString):
        yield node.field, "".join(one if isinstance(one, str) else " a" for one in node.value.s)


def events(trees: list[Any], chance: random.Random) -> Iterator[dict[str, str]]:
    by_field: dict[str, list[str]] = {}
    for tree in trees:
        for field, text in values(tree):
            by_field.setdefault(field, []).append(text)
    for _ in range(TRIES):
        event = {}
        for field, texts in by_field.items():
            chosen = chance.sample(texts, chance.randint(1, len(texts)) if field == "CommandLine" else 1)
            glue = chance.choice(["", " "])
            event[field] = chance.choice([str, str.upper, str.swapcase])(glue.join(chosen))
        yield event


def test_every_rule_for_linux_says_the_same_to_both(pairs: list[tuple[Rule, Any]]) -> None:
    chance, met = random.Random(1), set[str]()
    for rule, trees in pairs:
        for event in events(trees, chance):
            wanted = any(holds(tree, event) for tree in trees)
            found = rule.check(Fields(event, {name: value.lower() for name, value in event.items()}))
            assert found is wanted, (rule.title, event)
            if wanted:
                met.add(rule.id)
    assert len(met) > 0.8 * len(pairs)  # else the events would prove little
