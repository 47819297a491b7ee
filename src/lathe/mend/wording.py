"""What mend says to people: its findings in plain words, and which requests it understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lathe.mend.report import Question, RepairReport

if TYPE_CHECKING:
    from lathe.mend.chores.outcome import ChoreReport

_VERBATIM = ("bisect", "why")

ABILITIES = """\
- make failing tests pass: "Make the failing tests pass", "Fix tests/test_x.py in 5 minutes"
- rename and move: "Rename function foo to bar", "Rename parameter x of foo to y", "Move foo from a.py to b.py"
- clear findings: "Fix the lint errors", "Format the code", "Sort the imports", "Remove unused imports", \
"Fix the type errors"
- deprecations: "Upgrade deprecated calls", "Upgrade datetime.utcnow calls"
- history: "Find the commit that broke tests/test_x.py::test_y since v1.2"
- where a failure points to, as evidence: "Why does test_y fail?"\
"""
_A_MODEL = (
    "configure a model: set OPENAI_API_KEY or ANTHROPIC_API_KEY, or OPENAI_BASE_URL for a server of your own (vLLM, "
    "llama.cpp, Ollama, ...), and choose one with `-m`."
)
NEEDS_MODEL = (
    "This request needs a language model, and none is configured: `mend`, the embedded engine, works without one and "
    f"understands only what it can do:\n\n{ABILITIES}\n\nFor everything else {_A_MODEL}"
)


def unclear(hint: str) -> str:
    """Return the answer to words that are nearly a request that mend understands."""
    return (
        f"I did not understand that in full, so I did nothing. {hint}\n\nWhat I can do:\n\n{ABILITIES}\n\n"
        f"For everything else {_A_MODEL}"
    )


def tell(report: ChoreReport) -> str:
    """Return what a chore came to, with its evidence and what is left."""
    lines = [report.summary]
    if report.evidence:
        lines += ["", *(f"- {line}" if report.chore not in _VERBATIM else line for line in report.evidence)]
    if report.left:
        lines += ["", "Left:" if report.status == "done" else "Why:", *(f"- {line}" for line in report.left)]
    return "\n".join(lines)


def describe(report: RepairReport) -> str:
    """Return what was wrong, what was done, and with what evidence."""
    lines = []
    if report.changes:
        count = len(report.changes)
        lines.append(f"{'One fault was' if count == 1 else f'{count} faults were'} found by search:")
        lines.append("")
    for number, change in enumerate(report.changes):
        lines.append(f"- {change.file}:{change.line}: {change.kind}: {_code(change.before)} → {_code(change.after)}")
        lines.append(f"  fixed {_names(change.fixed)}")
        others = [other for other in report.alternatives if other.instead_of == number]
        if others:
            shown = "; ".join(f"{other.file}:{other.line} {_code(other.after)}" for other in others[:3])
            more = f" and {len(others) - 3} more" if len(others) > 3 else ""
            lines.append(f"  the tests cannot tell it from: {shown}{more}")
            if change.why:
                lines.append(f"  chosen, because {change.why}")
            lines += _questions([question for question in report.questions if question.about == number])
    lines += ["", f"Tests before: {report.before}. After: {report.after}."]
    confirmed = ", confirmed by a fresh run of pytest" if report.confirmed else ""
    lines.append(f"{report.tried} candidate programs were tried in {report.seconds:.1f} s{confirmed}.")
    if report.failing and report.status != "already_green":
        lines.append(f"Still failing: {_names(report.failing)}.")
    lines += [f"Note: {note}." for note in report.notes]
    return "\n".join(lines).strip()


def _questions(questions: list[Question]) -> list[str]:
    """Return where repairs differ, and one test that would decide."""
    lines = [
        f"  it differs from {_code(one.other_after)} at {one.call}: {one.chosen}, with the other {one.other};"
        " which is right?"
        for one in questions
    ]
    test = next((one for one in questions if one.test), None)
    if test is not None:
        holds = f"with {_code(test.other_after)}" if test.test_for_other else "with the edit chosen"
        lines.append(f"  a test that decides {test.call} (it passes {holds}):")
        lines += [f"      {line}".rstrip() for line in test.test.strip().splitlines()]
    return lines


def _code(text: str) -> str:
    """Return code on one line, in quotes."""
    return f"`{'; '.join(line.strip() for line in text.splitlines())}`" if text.strip() else "nothing"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
