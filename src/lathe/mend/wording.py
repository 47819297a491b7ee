"""What mend says to people: its findings in plain words, and which requests it understands."""

from __future__ import annotations

import re

from lathe.mend.report import RepairReport

NEEDS_MODEL = (
    "This request needs a language model, and none is configured: `mend`, the embedded engine, works without one and "
    "does one thing. It makes failing tests pass, by searching for edits that repair them and break no other test; "
    'ask for it with, for example, "Make the failing tests pass".\n\n'
    "For everything else configure a model: set OPENAI_API_KEY or ANTHROPIC_API_KEY, or OPENAI_BASE_URL for a server "
    "of your own (vLLM, llama.cpp, Ollama, ...), and choose one with `-m`."
)

_VERB = r"(?:fix|repair|mend|correct|debug|solve|resolve|heal|get|make|turn|bring|find and fix)"
_TESTS = r"(?:tests?|test[ -]?suite|test[ -]?cases?|suite|pytest|unit ?tests?|specs?|ci|build)"
_WISHES = (
    rf"\b{_VERB}\b.*\b(?:failing|broken|red|failed)\b.*\b{_TESTS}\b",
    rf"\b{_VERB}\b.*\b{_TESTS}\b.*\b(?:pass(?:es|ing)?|green|work(?:ing)?|succeed|again|failures?)\b",
    rf"\b(?:fix|repair|mend)\b.*\b{_TESTS}\b",
    rf"\b{_TESTS}\b.*\b(?:fails?|failing|broken|red)\b.*\b(?:fix|repair|mend|correct)\b",
    rf"\b(?:fix|repair|mend|correct)\b.*\b(?:bugs?|faults?|failures?|regressions?)\b.*\b{_TESTS}\b",
    r"^\W*(?:please\W+)?(?:fix|repair|mend)\b(?:\W+(?:the|this|these|all|my|it|code|bugs?|project|repo(?:sitory)?))*\W*$",
    r"^\W*make (?:it|everything|all) (?:pass|green)\W*$",
)
# A wish that goes beyond repair is not half done.
_BEYOND = re.compile(
    r"\b(?:add|write|implement|create|generate|delete|remove|skip|disable|rewrite|refactor|rename|document|explain"
    r"|port|migrate|upgrade|translate|deploy|commit|push)\b"
)
_NEGATED = re.compile(r"\b(?:do not|don't|dont|never|without)\b[^.;\n]*")


def wants_repair(text: str) -> bool:
    """Return whether the words ask to make failing tests pass, and for nothing beyond that."""
    words = " ".join(text.lower().replace("’", "'").split())
    wish = _NEGATED.sub(" ", words)
    return any(re.search(pattern, wish) for pattern in _WISHES) and not _BEYOND.search(wish)


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
    lines += ["", f"Tests before: {report.before}. After: {report.after}."]
    confirmed = ", confirmed by a fresh run of pytest" if report.confirmed else ""
    lines.append(f"{report.tried} candidate programs were tried in {report.seconds:.1f} s{confirmed}.")
    if report.failing and report.status != "already_green":
        lines.append(f"Still failing: {_names(report.failing)}.")
    lines += [f"Note: {note}." for note in report.notes]
    return "\n".join(lines).strip()


def _code(text: str) -> str:
    """Return code on one line, in quotes."""
    return f"`{'; '.join(line.strip() for line in text.splitlines())}`" if text.strip() else "nothing"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
