"""Policies on trial: their own cases, those that came of appeals, and recorded situations (shadow mode)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from lathe.guard.appeals import Regression
from lathe.guard.findings import Finding, Material
from lathe.guard.ladder import Situation, decide, situation_of
from lathe.guard.policy import BLOCKS, SEVERITY, Policy
from lathe.protocol.errors import UsageError

Judge = Callable[[Material], Sequence[Finding]]
_EXAMPLES = 5
_T = TypeVar("_T")


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A situation as it is kept: a line of a JSONL file. `at` is milliseconds since the epoch."""

    situation: Situation
    id: str = ""
    at: int = 0


class Failure(NamedTuple):
    """A case that came out otherwise than it must."""

    case: str
    wanted: str
    found: str


class Outcome(NamedTuple):
    """How the cases came out. `unrun` are those for which monitors are needed that were not there."""

    passed: int
    failures: tuple[Failure, ...]
    unrun: tuple[str, ...]


class Change(NamedTuple):
    """Situations that one policy decides otherwise than another: from which step and clause to which."""

    before: str
    after: str
    situations: int
    examples: tuple[str, ...]


class Counts(NamedTuple):
    """What a policy decides of recorded situations, in numbers."""

    situations: int
    blocked: int
    by_step: dict[str, int]
    by_clause: dict[str, dict[str, int]]
    by_tier: dict[str, dict[str, int]]


def keepable(situation: Situation) -> Situation:
    """Return a situation that has a JSON and is decided in the same way.

    What makes no sense and has no JSON (a score that is no number) is kept as its monitor being wrong.
    """
    sound = tuple(one for one in situation.findings if one.sound)
    wrong = {one.monitor: "wrong" for one in situation.findings if not one.sound}
    states = {**situation.monitors, **{name: "wrong" for name in wrong if situation.monitors.get(name, "ok") == "ok"}}
    return msgspec.structs.replace(situation, findings=sound, monitors=states)


def recorded(situation: Situation, id: str, at: int) -> bytes:
    """Return a situation as a line of a JSONL file."""
    return msgspec.json.encode(Recorded(keepable(situation), id, at)) + b"\n"


def read_lines(path: Path, shape: type[_T]) -> Iterator[_T]:
    """Yield what each line of a JSONL file holds; raise `UsageError` that names the line that is wrong."""
    decoder = msgspec.json.Decoder(shape)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield decoder.decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError) as error:
                        raise UsageError(f"{path}, line {number}: {error}.", code="guard_record") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.", code="guard_record") from None


def read_cases(folder: Path) -> list[Regression]:
    """Return the cases of all JSON files of a folder, in the order of their names; raise `UsageError`."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder with cases.", code="guard_case")
    found: list[Regression] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Regression))
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise UsageError(f"{path} is no case: {error}.", code="guard_case") from None
    return found


def tried(policy: Policy, cases: Iterable[Regression] = (), judge: Judge | None = None) -> Outcome:
    """Return how a policy's own cases and `cases` come out; `judge` runs the monitors, where there are some.

    Raises `UsageError` for a case of the policy whose situation is none.
    """
    failures: list[Failure] = []
    unrun: list[str] = []
    passed = 0
    for failure in (*_own(policy), *_appealed(policy, cases, judge, unrun)):
        if failure is None:
            passed += 1
        else:
            failures.append(failure)
    return Outcome(passed, tuple(failures), tuple(unrun))


def differences(old: Policy, new: Policy, lines: Iterable[Recorded]) -> tuple[int, list[Change]]:
    """Return how many situations there are, and which `new` decides otherwise than `old`, the most frequent first."""
    total = 0
    found: dict[tuple[str, str], list[str]] = {}
    for number, line in enumerate(lines, 1):
        total = number
        before, after = (_decided(policy, line.situation) for policy in (old, new))
        if before != after:
            found.setdefault((before, after), []).append(line.id or f"line {number}")
    changes = [Change(*pair, len(ids), tuple(ids[:_EXAMPLES])) for pair, ids in found.items()]
    return total, sorted(changes, key=lambda one: (-one.situations, one.before, one.after))


def counts(policy: Policy, lines: Iterable[Recorded]) -> Counts:
    """Return what a policy decides of recorded situations, by step, clause and tier."""
    steps: Counter[str] = Counter()
    clauses: dict[str, Counter[str]] = {}
    tiers: dict[str, Counter[str]] = {}
    for line in lines:
        measure = decide(policy, line.situation)
        steps[measure.step] += 1
        clauses.setdefault(measure.clause or "none", Counter())[measure.step] += 1
        tiers.setdefault(line.situation.tier, Counter())[measure.step] += 1
    return Counts(
        situations=steps.total(),
        blocked=sum(count for step, count in steps.items() if step in BLOCKS),
        by_step=_ordered(steps),
        by_clause={name: _ordered(clauses[name]) for name in sorted(clauses)},
        by_tier={name: _ordered(tiers[name]) for name in sorted(tiers)},
    )


def _own(policy: Policy) -> Iterator[Failure | None]:
    for case in policy.cases:
        try:
            measure = decide(policy, situation_of(case.situation))
        except msgspec.ValidationError as error:
            raise UsageError(
                f"The case {case.name!r} of the policy is no situation: {error}.", code="guard_case"
            ) from None
        wanted = f"{case.step} {case.clause}".strip()
        found = f"{measure.step} {measure.clause if case.clause else ''}".strip()
        yield None if found == wanted else Failure(case.name, wanted, found)


def _appealed(
    policy: Policy, cases: Iterable[Regression], judge: Judge | None, unrun: list[str]
) -> Iterator[Failure | None]:
    for case in cases:
        if case.situation is not None:
            step = decide(policy, case.situation).step
            fits = SEVERITY[step] <= SEVERITY[case.at_most]
            yield None if fits else Failure(case.name, f"at most {case.at_most}", step)
        if case.material is not None:
            if judge is None:
                unrun.append(case.name)
                continue
            again = sorted({one.clause for one in judge(case.material) if _is_again(policy, case, one)})
            yield None if not again else Failure(case.name, f"no {', '.join(case.never)}", ", ".join(again))


def _is_again(policy: Policy, case: Regression, finding: Finding) -> bool:
    by_one = finding.monitor in case.monitors or not case.monitors
    return by_one and finding.clause in case.never and finding.score >= policy.thresholds_of(finding.monitor).doubts


def _decided(policy: Policy, situation: Situation) -> str:
    measure = decide(policy, situation)
    return f"{measure.step} {measure.clause}".strip()


def _ordered(steps: Counter[str]) -> dict[str, int]:
    return {step: steps[step] for step in SEVERITY if step in steps}
