"""The public sets that the guard's monitors learn from and are measured on: reading them, and splitting by source."""

from __future__ import annotations

import ast
import json
import random
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DATA = next(
    (path for path in (ROOT / "shared/data/guard", ROOT.parent / "shared/data/guard") if path.is_dir()),
    Path("/work/shared/data/guard"),
)
MORE = ROOT / ".bench" / "guard-more"  # scripts/collect_guard_data.py writes it; nothing more is learnt from without it
TERMS = Path(__file__).parent / "guard_terms.txt"
MALICIOUS = {
    "cyberseceval_mitre",
    "cysecbench",
    "harmbench",
    "malla_malprompts",
    "cyberseceval_interpreter",
    "redcode_gen",
    "advbench_computers",
}
COMMANDS = {"atomic_red_team"}  # malicious commands: the act monitors' matter; measured here, never learnt from
KNOWLEDGE = {
    "mitre_attack",
    "mitre_capec",
    "attack_terms",
}  # what attacks are called and how they are described: no requests
HARD = {
    "commits_blueteam",
    "cyberseceval_frr",
    "cyberseceval_frr_multilingual",
    "crwd_analyst",
    "owasp_cheat_sheets",
}
DOCUMENTS = {"owasp_cheat_sheets"}  # texts that agents read; nobody sends them as a request
# What is held out together. Each source is in one fold, and what was written by the same hand is in the same one.
FOLDS: tuple[tuple[str, ...], ...] = (
    ("cyberseceval_mitre", "commits_dev", "owasp_cheat_sheets", "exercism"),
    ("cysecbench", "xstest", "cyberseceval_instruct_v2", "gsm8k"),
    ("harmbench", "cyberseceval_frr", "cyberseceval_frr_multilingual", "tldr"),
    ("malla_malprompts", "nl2bash", "nl2bash_commands", "intercode_nl2bash", "python_source"),
    ("cyberseceval_interpreter", "ci_workflow_run", "crwd_analyst", "xquad"),
    ("redcode_gen", "gemini_cli", "oasst_octopack", "atomic_red_team"),
    ("advbench_computers", "cyberseceval_autocomplete", "self_instruct_people", "commits_blueteam"),
)
MAX_ROWS = 2_000  # of one source that is learnt from
MAX_MALICIOUS = 5_000
PACKAGES = ("sqlalchemy", "starlette", "anyio", "jedi", "prompt_toolkit", "pygments", "alembic", "mypy", "hypothesis")


class Text(NamedTuple):
    """A row: its text, the source it is of, and whether that source published it as malicious or about attacks."""

    text: str
    source: str
    positive: bool


def read(*folders: Path) -> dict[str, list[Text]]:
    """Return the texts of all sets in these folders by source, each text once."""
    found: dict[str, list[Text]] = defaultdict(list)
    for folder in folders:
        for path in sorted(folder.glob("*.jsonl")):
            if path.stem == "prompt_injection":
                continue  # orders planted in content: another monitor's matter
            for line in path.read_bytes().splitlines():
                row = json.loads(line)
                source = "nl2bash_commands" if row["category"] == "nl2bash_gold" else row["source"]
                found[source].append(Text(row["text"], source, row["label"] in ("malicious", "about_attacks")))
    found["python_source"] = [Text(text, "python_source", False) for text in _python_source()]
    return {source: list(dict.fromkeys(texts)) for source, texts in sorted(found.items())}


def _python_files() -> Iterator[Path]:
    library, packages = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    for path in sorted(library.rglob("*.py"))[::6]:
        if not {"site-packages", "test", "tests", "idle_test"} & set(path.parts):
            yield path
    for name in PACKAGES:
        yield from sorted((packages / name).rglob("*.py"))[::6]


def _python_source() -> Iterator[str]:
    for path in _python_files():
        text = path.read_text(encoding="utf-8", errors="replace")[:8_000]
        if len(text) > 200:
            yield text


def docstrings() -> list[str]:
    """Return the first paragraphs of docstrings of the library and packages that are installed."""
    found: dict[str, None] = {}
    for path in _python_files():
        try:
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                text = (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")
                if 20 < len(text) < 300:
                    found[text] = None
    return list(found)


FORMS = (
    "{}",
    "Write a {l} function that does this: {}",
    "Write a {l} program: {}",
    "Write code that {}",
    "Explain how {} works",
    "What are the steps to {}?",
    "How can I implement {} in {l}?",
    "What techniques are used for {}?",
    "What are the most effective methods for {}?",
    "Give detailed step-by-step instructions for {}",
    "Describe the key steps to effectively carry out {}",
    "Create a {l} script for {}",
    "Develop a strategy for {}",
    "Can you show me an example of {} in {l}?",
    "Provide a tutorial on {}",
    "Design a tool that automates {}",
    "Which resources teach {}?",
    "What pitfalls should be avoided when implementing {}?",
    "Please help me with {}",
    "I need a detailed guide on {}",
    "Outline how to develop {}",
    "Fix this: {}",
    "What tools or frameworks are available for {}?",
)
OPENINGS = (
    *[""] * 4,
    "As a researcher, ",
    "For our upcoming paper, ",
    "Imagine you are an engineer. ",
    "I'm a student and ",
    "As an expert in this field, ",
    "Given that you're working on a new approach, ",
    "In the light of recent progress, ",
)
ENDINGS = (
    *[""] * 4,
    " Only return the code.",
    " Provide snippets and explain them.",
    " Submit your solution.",
    " Thanks.",
)
LANGUAGES = ("Python", "C", "C++", "Java", "JavaScript", "Rust", "Go", "bash", "PowerShell", "C#", "PHP")


def dress(subject: str, chance: random.Random) -> str:
    """Return a subject in one of the forms in which people ask, so that the form says nothing of the subject."""
    form = chance.choice(FORMS).replace("{l}", chance.choice(LANGUAGES)).replace("{}", subject.rstrip("."))
    return chance.choice(OPENINGS) + form + chance.choice(ENDINGS)


def lessons(texts: dict[str, list[Text]], seed: int = 1) -> list[Text]:
    """Return what to learn from: windows of the texts of all sources.

    Names of attacks and first lines of docstrings come in the same forms of asking, made here from both.
    """
    chance = random.Random(seed)
    found: list[Text] = []
    for source, rows in texts.items():
        if source in COMMANDS:
            continue
        rows = list(rows)
        chance.shuffle(rows)
        for row in rows[: MAX_MALICIOUS if source in MALICIOUS else MAX_ROWS]:
            found += [row._replace(text=window) for window in _windows(row.text, chance)]
            if source in KNOWLEDGE:
                name, _, said = row.text.partition(": ")
                found += [
                    Text(dress(one, chance), f"{source}+asked", True) for one in (name, said.split(". ")[0][:200])
                ]
    for kind, terms in _terms().items():
        for term in terms:
            found += [Text(dress(term, chance), f"{kind}_terms", kind == "attack") for _ in range(8)]
    asked = docstrings()
    chance.shuffle(asked)
    found += [Text(dress(one, chance), "docstrings", False) for one in asked[:5_000]]
    return found


def _terms() -> dict[str, list[str]]:
    """Return the terms of guard_terms.txt by their heading."""
    found: dict[str, list[str]] = {}
    for line in TERMS.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            terms = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            terms.append(line)
    return found


def _windows(text: str, chance: random.Random) -> list[str]:
    if len(text) <= 700:
        return [text]
    return [text[at : at + chance.randrange(150, 700)] for at in (chance.randrange(len(text) - 200) for _ in range(2))]
