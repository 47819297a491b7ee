"""`lathe guard policy`: what the policy says, whether its cases hold, and what a change would do before it does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lathe.protocol.codec import encode
from lathe.protocol.errors import UsageError

if TYPE_CHECKING:
    from lathe.guard.ledger import Limits
    from lathe.guard.policy import Policy
    from lathe.guard.taxonomy import Clause

_JSON = "print JSON"


def main(argv: list[str]) -> int:
    """Run `lathe guard policy …` and return its exit code: 1 where a case fails, 2 for a file that is wrong."""
    parser = argparse.ArgumentParser(
        prog="lathe guard policy",
        description="The taxonomy and the policy of the guard: data under review.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help: str, run: Callable[[Any], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=f"{help}.", allow_abbrev=False)
        command.set_defaults(run=run)
        command.add_argument("--taxonomy", type=Path, metavar="FILE", help="a taxonomy (the shipped one if left out)")
        command.add_argument("--json", action="store_true", help=_JSON)
        return command

    command = add("show", "Show the clauses, who may do what, and what follows otherwise", _show)
    command.add_argument("clause", nargs="?", help="one clause, with its examples")
    command.add_argument("--policy", type=Path, metavar="FILE", help="a policy (the shipped one if left out)")
    command = add("test", "Run the examples and cases of a policy, and those that came of appeals", _test)
    command.add_argument("--policy", type=Path, metavar="FILE", help="a policy (the shipped one if left out)")
    command.add_argument("--cases", type=Path, action="append", default=[], metavar="DIR", help="a folder of cases")
    command = add("diff", "Show what two policies decide differently over recorded situations", _diff)
    command.add_argument("old", type=Path, metavar="OLD")
    command.add_argument("new", type=Path, metavar="NEW")
    command.add_argument("recorded", type=Path, metavar="SITUATIONS", help="a JSONL file")
    command.add_argument("--new-taxonomy", type=Path, metavar="FILE", help="a taxonomy for NEW alone")
    command = add("replay", "Decide recorded situations anew, and count (shadow mode)", _replay)
    command.add_argument("recorded", type=Path, metavar="RECORDED", help="a JSONL file: situations, or decisions")
    command.add_argument("--policy", type=Path, metavar="FILE", help="a policy (the shipped one if left out)")
    command.add_argument(
        "--ledger", type=Path, metavar="FILE", help="other limits of the ledger: RECORDED holds decisions then"
    )
    options = parser.parse_args(argv)
    code: int = options.run(options)
    return code


def _policy(path: Path | None, taxonomy: Path | None) -> Policy:
    from lathe.guard.policy import SHIPPED, Policy
    from lathe.guard.taxonomy import Taxonomy

    return Policy.load(path or SHIPPED, Taxonomy.load(taxonomy) if taxonomy is not None else None)


def _show(options: Any) -> int:
    from lathe.guard.taxonomy import Way

    policy = _policy(options.policy, options.taxonomy)
    if options.clause is not None:
        clause = policy.taxonomy.clauses.get(options.clause)
        if clause is None:
            raise UsageError(f"There is no clause {options.clause[:80]!r}.", hint="lathe guard policy show lists them.")
        print(encode(clause).decode() if options.json else _clause_text(policy, clause))
        return 0
    if options.json:
        said = {"policy": policy.hash, "taxonomy": policy.taxonomy.hash, "levels": policy.taxonomy.levels}
        print(encode({**said, "steps": policy.steps, "monitors": policy.monitors}).decode())
        return 0
    print(f"policy    {policy.hash}\ntaxonomy  {policy.taxonomy.hash}")
    for level, clauses in policy.taxonomy.levels.items():
        print(f"\n{level.replace('_', ' ')}")
        for clause in clauses:
            rule = policy.steps[clause.concern][level]
            steps = ", ".join(dict.fromkeys(rule.outside.values())) or rule.allowed
            otherwise = "" if Way() in clause.allowed_by else f"; else {steps}"
            print(f"  {clause.id:<22} {_ways(clause)}{otherwise}")
    return 0


def _ways(clause: Clause) -> str:
    from lathe.guard.ladder import Opening
    from lathe.guard.wording import terms

    ways = [terms(Opening(way.tier, way.scope, way.targets, ())) for way in clause.allowed_by]
    return "; or ".join("everybody" if way == "nothing more" else way for way in ways) or "nobody"


def _clause_text(policy: Policy, clause: Clause) -> str:
    return "\n".join(
        [
            f"{clause.id} ({policy.taxonomy.level(clause.id).replace('_', ' ')}): {clause.title}",
            clause.description.strip(),
            f"allowed to: {_ways(clause)}",
            f"an engagement can allow it: {'yes' if clause.engagement else 'no'}",
            *(f"{'allowed' if one.allowed else 'not allowed'}: {one.say}" for one in clause.examples),
            *(f"rather {one.belongs}: {one.say}" for one in clause.counter_examples),
        ]
    )


def _test(options: Any) -> int:
    from lathe.guard.trial import read_cases, tried

    policy = _policy(options.policy, options.taxonomy)
    outcome = tried(policy, [case for folder in options.cases for case in read_cases(folder)])
    examples = sum(len(one.examples) + len(one.counter_examples) for one in policy.taxonomy.clauses.values())
    if options.json:
        print(encode({"policy": policy.hash, "examples": examples, **outcome._asdict()}).decode())
    else:
        for failure in outcome.failures:
            print(f"FAILED {failure.case}: {failure.wanted} is wanted, {failure.found} was found")
        for name in outcome.unrun:
            print(f"not run, for it needs the monitors: {name}")
        print(
            f"{examples} examples of the taxonomy and {outcome.passed} cases hold, {len(outcome.failures)} cases fail."
        )
    return 1 if outcome.failures else 0


def _diff(options: Any) -> int:
    from lathe.guard.trial import Recorded, differences, read_lines

    old = _policy(options.old, options.taxonomy)
    new = _policy(options.new, options.new_taxonomy or options.taxonomy)
    total, changes = differences(old, new, read_lines(options.recorded, Recorded))
    if options.json:
        print(encode({"old": old.hash, "new": new.hash, "situations": total, "changes": changes}).decode())
        return 0
    changed = sum(one.situations for one in changes)
    print(f"{changed:,} of {total:,} situations are decided otherwise ({old.hash[:12]} → {new.hash[:12]}).")
    for one in changes:
        print(f"  {one.situations:>7,}  {one.before} → {one.after}  ({', '.join(one.examples)})")
    return 0


def _replay(options: Any) -> int:
    from lathe.guard.trial import Recorded, counts, read_lines

    if options.ledger is not None:
        return _replay_ledger(options)
    policy = _policy(options.policy, options.taxonomy)
    found = counts(policy, read_lines(options.recorded, Recorded))
    if options.json:
        print(encode({"policy": policy.hash, **found._asdict()}).decode())
        return 0
    print(f"{found.situations:,} situations, {found.blocked:,} blocked, by the policy {policy.hash[:12]}.")
    for title, rows in (("step", {"all": found.by_step}), ("clause", found.by_clause), ("tier", found.by_tier)):
        for name, steps in rows.items():
            print(f"  {title:<7} {name:<22} {', '.join(f'{step} {count:,}' for step, count in steps.items())}")
    return 0


def _replay_ledger(options: Any) -> int:
    from lathe.guard.ledger import Entry, Limits, simulate
    from lathe.guard.trial import read_lines

    old, new = Limits.load(), Limits.load(options.ledger)
    entries = list(read_lines(options.recorded, Entry))
    found = simulate(old, new, entries, max((one.at for one in entries), default=0))
    if options.json:
        rows = [{"marks": sorted(one.marks), "before": one.before, "after": one.after} for one in found]
        plain = [{**row, "before": _account(row["before"]), "after": _account(row["after"])} for row in rows]
        print(encode({"old": old.hash, "new": new.hash, "decisions": len(entries), "actors": plain}).decode())
        return 0
    print(f"{len(found):,} actors would stand otherwise, by {len(entries):,} decisions ({_names(old, new)}).")
    for one in found:
        print(f"  {min(one.marks)[:12]}  {one.before.state} ({one.before.score:g}) → {one.after.state}", end="")
        print(f" ({one.after.score:g})", *(change.sentence for change in one.after.changes[-1:]))
    return 0


def _account(one: Any) -> dict[str, Any]:
    return {"state": one.state, "score": one.score, "changes": [change._asdict() for change in one.changes]}


def _names(old: Limits, new: Limits) -> str:
    return f"{old.hash[:12]} → {new.hash[:12]}"
