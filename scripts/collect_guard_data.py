"""Write further public sets for the guard's monitors, from snapshots of their repositories.

    python scripts/collect_guard_data.py MIRROR OUTPUT

MIRROR holds a Git directory `OWNER+NAME/repo` for each repository named in docs/guard-data.md; a missing one is said
and left out. OUTPUT gets one file a source in the form of shared/data/guard: texts as they are, cut at 8,000
characters, with label, source, licence and origin. scripts/train_topical.py and the benchmarks take it by --more.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

MAX_CHARACTERS = 8_000
# AdvBench mixes all kinds of harm: these words choose the rows about computers. A row that names none is left out.
COMPUTERS = re.compile(
    r"\b(hack\w*|malware|virus(es)?|ransomware|exploit\w*|phish\w*|backdoor|keylogger|trojan|botnet|ddos|denial.of.service"
    r"|cyber\w*|password|firewall|spyware|rootkit|sql injection|vulnerabilit\w+|unauthorized access|computer)\b",
    re.IGNORECASE,
)


class Repository:
    """Files of the newest commit of a Git directory."""

    def __init__(self, mirror: Path, name: str) -> None:
        self.name = name
        self.folder = mirror / name / "repo"
        self.commit = self._git("rev-parse", "HEAD").decode().strip()

    def _git(self, *arguments: str) -> bytes:
        return subprocess.run(["git", "-C", self.folder, *arguments], check=True, capture_output=True).stdout

    def read(self, path: str) -> str:
        return self._git("show", f"HEAD:{path}").decode("utf-8", "replace")

    def files(self, under: str, pattern: str) -> list[str]:
        listed = self._git("ls-tree", "-r", "--name-only", "HEAD", "--", under).decode().splitlines()
        return [path for path in listed if re.search(pattern, path)]

    def many(self, paths: list[str]) -> Iterator[tuple[str, str]]:
        """Yield path and text of many files through one process."""
        asked = "".join(f"HEAD:{path}\n" for path in paths).encode()
        output = subprocess.run(
            ["git", "-C", self.folder, "cat-file", "--batch"], input=asked, check=True, capture_output=True
        ).stdout
        stream = io.BytesIO(output)
        for path in paths:
            header = stream.readline().split()
            if len(header) == 3:
                yield path, stream.read(int(header[2])).decode("utf-8", "replace")
                stream.read(1)


Row = tuple[str, str, str]  # path, category, text


class Source(NamedTuple):
    """A set to write: where it is from, what its rows are published as, and how to find them."""

    name: str
    repository: str
    label: str
    licence: str
    rows: Callable[[Repository], Iterator[Row]]


def interpreter(repository: Repository) -> Iterator[Row]:
    path = "CybersecurityBenchmarks/datasets/interpreter/interpreter.json"
    for row in json.loads(repository.read(path)):
        yield path, str(row.get("attack_type", "interpreter")), row["mutated_prompt"]


def autocomplete(repository: Repository) -> Iterator[Row]:
    path = "CybersecurityBenchmarks/datasets/autocomplete/autocomplete.json"
    for row in json.loads(repository.read(path)):
        yield path, f"autocomplete:{row['language']}", row["test_case_prompt"]


def analyst(repository: Repository) -> Iterator[Row]:
    folder = "CybersecurityBenchmarks/datasets/crwd_meta"
    for path, key in (
        ("malware_analysis/questions.json", "question"),
        ("threat_intel_reasoning/report_questions.json", "question_text"),
    ):
        for row in json.loads(repository.read(f"{folder}/{path}")):
            yield f"{folder}/{path}", path.partition("/")[0], row[key]


def redcode(repository: Repository) -> Iterator[Row]:
    for path, text in repository.many(repository.files("dataset/RedCode-Gen", r"\.py$")):
        yield path, path.split("/")[2], text


def advbench(repository: Repository) -> Iterator[Row]:
    path = "data/advbench/harmful_behaviors.csv"
    for row in csv.DictReader(io.StringIO(repository.read(path))):
        if COMPUTERS.search(row["goal"]):
            yield path, "computers", row["goal"]


def attack(repository: Repository) -> Iterator[Row]:
    for kind in ("attack-pattern", "malware", "tool"):
        paths = repository.files(f"enterprise-attack/{kind}", r"\.json$") + repository.files(
            f"mobile-attack/{kind}", r"\.json$"
        )
        for path, text in repository.many(paths):
            for found in json.loads(text)["objects"]:
                if found.get("description") and not found.get("revoked"):
                    yield path, kind, f"{found['name']}: {_plain(found['description'])}"


def capec(repository: Repository) -> Iterator[Row]:
    for path, text in repository.many(repository.files("capec/2.1/attack-pattern", r"\.json$")):
        for found in json.loads(text)["objects"]:
            if found.get("description"):
                yield path, "attack-pattern", f"{found['name']}: {_plain(found['description'])}"


def _plain(description: str) -> str:
    """Return a description of ATT&CK without its references."""
    return re.sub(r"\(Citation: [^)]*\)|\[([^\]]*)\]\([^)]*\)|<[^>]+>", r"\1", description)


def nl2bash(repository: Repository) -> Iterator[Row]:
    for path, category in (("data/bash/all.nl", "question"), ("data/bash/all.cm", "command")):
        for line in repository.read(path).splitlines():
            yield path, category, line


def tldr(repository: Repository) -> Iterator[Row]:
    for path, text in repository.many(repository.files("pages", r"pages/(common|linux|windows)/.*\.md$")):
        yield path, path.split("/")[1], text


def oasst(repository: Repository) -> Iterator[Row]:
    path = "dataset/oasst/oasstcommitpackft.jsonl"
    for line in repository.read(path).splitlines():
        row = json.loads(line)
        for key in ("prompt", "completion"):
            yield path, key, row.get(key) or ""


def seeds(repository: Repository) -> Iterator[Row]:
    for path in ("data/seed_tasks.jsonl", "human_eval/user_oriented_instructions.jsonl"):
        for line in repository.read(path).splitlines():
            row = json.loads(line)
            given = row["instances"][0].get("input", "")
            yield path, "instruction", f"{row['instruction']}\n{given}".strip()


def cheat_sheets(repository: Repository) -> Iterator[Row]:
    for path, text in repository.many(repository.files("cheatsheets", r"\.md$")):
        for section in re.split(r"(?m)^(?=#{2,3} )", text):
            yield path, "section", section


def agent_source(repository: Repository) -> Iterator[Row]:
    """Yield files of a coding agent: its code, tests, documentation and prompts, as agents read them."""
    for path, text in repository.many(
        repository.files("packages", r"\.(ts|tsx|md)$")[::6] + repository.files("docs", r"\.md$")
    ):
        yield path, path.rpartition(".")[2], text


def questions(repository: Repository) -> Iterator[Row]:
    """Yield questions about articles in eleven languages, every fourth with its paragraph."""
    for path, text in repository.many(repository.files(".", r"^xquad\.[a-z]+\.json$")):
        language = path.split(".")[1]
        for article in json.loads(text)["data"]:
            for number, paragraph in enumerate(article["paragraphs"]):
                for asked in paragraph["qas"][:2]:
                    context = f"\n\n{paragraph['context']}" if number % 4 == 0 else ""
                    yield path, f"question:{language}", asked["question"] + context


def exercises(repository: Repository) -> Iterator[Row]:
    for path, text in repository.many(repository.files("exercises", r"description\.md$")):
        yield path, "exercise", text


def school_maths(repository: Repository) -> Iterator[Row]:
    path = "grade_school_math/data/test.jsonl"
    for line in repository.read(path).splitlines():
        yield path, "problem", json.loads(line)["question"]


SOURCES = [
    Source("cyberseceval_interpreter", "meta-llama+PurpleLlama", "malicious", "MIT", interpreter),
    Source("redcode_gen", "AI-secure+RedCode", "malicious", "CC-BY-4.0", redcode),
    Source(
        "advbench_computers", "liaoaiwo+ai-content-safety-system", "malicious", "MIT (llm-attacks; a copy)", advbench
    ),
    Source("mitre_attack", "mitre+cti", "about_attacks", "ATT&CK terms of use", attack),
    Source("mitre_capec", "mitre+cti", "about_attacks", "CAPEC terms of use", capec),
    Source("crwd_analyst", "meta-llama+PurpleLlama", "benign_security", "MIT", analyst),
    Source("owasp_cheat_sheets", "OWASP+CheatSheetSeries", "benign_security", "CC-BY-SA-4.0", cheat_sheets),
    Source("cyberseceval_autocomplete", "meta-llama+PurpleLlama", "benign_dev", "MIT", autocomplete),
    Source("nl2bash", "TellinaTool+nl2bash", "benign_dev", "MIT", nl2bash),
    Source("tldr", "tldr-pages+tldr", "benign_dev", "CC-BY-4.0", tldr),
    Source("oasst_octopack", "bigcode-project+octopack", "benign_dev", "Apache-2.0", oasst),
    Source("self_instruct_people", "yizhongw+self-instruct", "benign_dev", "Apache-2.0", seeds),
    Source("xquad", "google-deepmind+xquad", "benign_dev", "CC-BY-SA-4.0", questions),
    Source("exercism", "exercism+problem-specifications", "benign_dev", "MIT", exercises),
    Source("gsm8k", "openai+grade-school-math", "benign_dev", "MIT", school_maths),
    Source("gemini_cli", "google-gemini+gemini-cli", "benign_dev", "Apache-2.0", agent_source),
]


def write(source: Source, repository: Repository, output: Path) -> int:
    """Write the rows of a source, each text once; return how many."""
    seen: set[str] = set()
    with (output / f"{source.name}.jsonl").open("w", encoding="utf-8") as stream:
        for path, category, text in source.rows(repository):
            text = text.strip()[:MAX_CHARACTERS]
            digest = hashlib.sha256(text.encode()).hexdigest()[:16]
            if len(text) < 10 or digest in seen:
                continue
            seen.add(digest)
            row = {
                "id": f"{source.name}:{digest}",
                "text": text,
                "label": source.label,
                "category": category,
                "source": source.name,
                "licence": source.licence,
                "origin": f"{source.repository}@{repository.commit[:12]}:{path}",
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(seen)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mirror", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for source in SOURCES:
        if not (options.mirror / source.repository).is_dir():
            print(f"{source.name}: {source.repository} is not in {options.mirror}, left out", file=sys.stderr)
            continue
        count = write(source, Repository(options.mirror, source.repository), options.output)
        print(f"{source.name:28} {source.label:16} {source.licence:28} {count:6}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
