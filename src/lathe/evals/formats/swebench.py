"""SWE-bench and what is written like it: rows of JSON, each an issue of a repository and the tests that settle it.

A row has `instance_id`, `repo`, `base_commit`, `problem_statement`, `patch`, `test_patch`, `FAIL_TO_PASS` and
`PASS_TO_PASS` (https://www.swebench.com/SWE-bench/guides/datasets/). The environment is the row's image, else the
official one of its name; or, with `repos=FOLDER`, a checkout of a local repository, which needs no Docker: there the
tests run with this machine's Python and pytest, so it is for repositories that need nothing else. The oracle applies
`patch`; the verifier puts the test files back, applies `test_patch`, runs the tests and grades them by SWE-bench's rule
(`swebench_grade.py`).
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lathe.evals.formats import swebench_grade
from lathe.evals.formats.made import Maker, script
from lathe.evals.formats.plain_python import PLACE, pytest_folder
from lathe.evals.formats.reading import (
    ROWS_LIMIT,
    Unreadable,
    digest_of,
    gathered,
    named,
    parsed_json,
    string,
    text_of,
    word,
)
from lathe.evals.formats.swebench_tests import files_of, named_tests, parser_of, suite_of
from lathe.evals.task import Dataset, EnvironmentSpec, Network, Resources, Task, VerifierSpec

WORKDIR = "/testbed"
AGENT_S, VERIFIER_S = 3_600.0, 1_800.0
FORMAT = "swebench 1"

_IMAGES = ("image", "image_name", "docker_image")
# What git says of a repository that belongs to another user, as files that were put into an environment do.
_GIT = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
_INSTRUCTION = """\
The repository {repo} lies in {workdir}. Resolve the issue below: change the repository's code so that it does what \
the issue asks for. Tests that are not in the repository decide whether it does; changes to existing tests don't count.

{issue}
"""


class _Row(NamedTuple):
    """One instance, its fields checked."""

    id: str
    repo: str
    commit: str
    issue: str
    patch: str
    test_patch: str
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    parser: str
    command: str
    script: str
    image: str
    difficulty: str


def read_dataset(path: Path, *, repos: str = "", made: Maker | None = None) -> Dataset:
    """Return the dataset of a `.json` or `.jsonl` file; raise `Unreadable` where there is none.

    `repos` is a folder of repositories: OWNER__NAME, OWNER/NAME or NAME, each a work tree or bare.
    """
    made = made or Maker()
    base = Path(repos).expanduser().resolve() if repos else None
    if base is not None and not base.is_dir():
        raise Unreadable(f"{repos} is no folder of repositories.")
    source = path.resolve()

    def task(row: Any) -> Task:
        if isinstance(row, Unreadable):
            raise row
        return _task(_row(row), path.stem, source, base, made)

    return gathered(path.stem, _rows(path), task)


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each row by its id; one that is no JSON is yielded as what is wrong with it."""
    text = text_of(path, within=path.parent, limit=ROWS_LIMIT)
    if path.suffix != ".jsonl":
        rows = parsed_json(text, path.name)
        rows = list(rows.values()) if isinstance(rows, dict) and "instance_id" not in rows else rows
        for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
            yield _label(row, number), row
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = parsed_json(line, f"Line {number}")
            except Unreadable as error:
                yield f"line {number}", error
            else:
                yield _label(row, number), row


def _label(row: Any, number: int) -> str:
    name = row.get("instance_id") if isinstance(row, dict) else None
    return name if isinstance(name, str) and name else f"row {number}"


def _row(row: Any) -> _Row:
    if not isinstance(row, dict):
        raise Unreadable("The row is no object.")
    repo, test_patch = string(row, "repo"), string(row, "test_patch")
    suite = suite_of(repo)
    given = string(row, "log_parser", "")
    parser = parser_of(given) if given else suite.parser
    if not parser:
        raise Unreadable(f"Results as {given[:60]!r} reads them are not supported here.")
    if string(row, "eval_type", "pass_and_fail") != "pass_and_fail":
        raise Unreadable("Grading by failures only is not supported here.")
    image = next(filter(None, (word(row, key) for key in _IMAGES)), "")
    return _Row(
        id=string(row, "instance_id"),
        repo=repo,
        commit=_commit(string(row, "base_commit")),
        issue=string(row, "problem_statement"),
        patch=string(row, "patch"),
        test_patch=test_patch,
        fail_to_pass=_tests(row, "FAIL_TO_PASS"),
        pass_to_pass=_tests(row, "PASS_TO_PASS"),
        parser=parser,
        command=_command(row, repo, test_patch, suite.command),
        script=string(row, "eval_script", ""),
        image=image,
        difficulty=word(row, "difficulty"),
    )


def _commit(text: str) -> str:
    if not 7 <= len(text) <= 64 or any(letter not in "0123456789abcdef" for letter in text):
        raise Unreadable(f"base_commit {text[:40]!r} is no commit.")
    return text


def _tests(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return names of tests: a list, or a list written as JSON."""
    value = row.get(key)
    if isinstance(value, str):
        value = parsed_json(value, key)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unreadable(f"{key} is no list of tests.")
    if not value and key == "FAIL_TO_PASS":
        raise Unreadable("FAIL_TO_PASS names no test, so nothing would be measured.")
    return tuple(value)


def _command(row: Mapping[str, Any], repo: str, test_patch: str, usual: str) -> str:
    """Return the shell command of the tests: the row's own, else the repository's usual one, on its test files."""
    config = row.get("install_config")
    own = row.get("test_cmd") or (config.get("test_cmd") if isinstance(config, dict) else None)
    if isinstance(own, list) and own and all(isinstance(each, str) for each in own):
        return "\n".join(own)
    if own is not None and not isinstance(own, str):
        raise Unreadable("test_cmd is neither a command nor a list of commands.")
    return " ".join([own or usual, *map(shlex.quote, named_tests(repo, test_patch))])


# --- the task


def _task(row: _Row, dataset: str, source: Path, repos: Path | None, made: Maker) -> Task:
    local = repos is not None
    settings = {"format": FORMAT, "local": local, **row._asdict()}
    grader = Path(swebench_grade.__file__)
    digest = digest_of(settings, [("grade.py", grader)])
    python = pytest_folder(made) if local else None
    key = digest_of([digest, python.parent.name if python else ""])  # pytest is the machine's, and no part of the task
    parts = made.folder(key, lambda folder: _fill(folder, row, python))
    name = named(row.id)
    common: dict[str, Any] = {"workdir": WORKDIR, "network": Network("none"), "resources": Resources(memory_mb=8192)}
    if repos is None or python is None:
        image = row.image or f"swebench/sweb.eval.x86_64.{row.id.lower().replace('__', '_1776_')}:latest"
        environment = EnvironmentSpec(image=image, env=_GIT, **common)
    else:
        files = ((_checkout(row, repos, made), WORKDIR), (python, PLACE))
        environment = EnvironmentSpec(files=files, env={**_GIT, "PYTHONPATH": PLACE}, **common)
    return Task(
        name=name,
        dataset=dataset,
        digest=digest,
        instruction=_INSTRUCTION.format(repo=row.repo, workdir=WORKDIR, issue=row.issue.strip()),
        environment=environment,
        verifier=VerifierSpec(
            tests=parts / "tests",
            env={"PYTHONPATH": "/tests/python"} if local else {},
            # Official images come with the network, and some suites (requests) ask real servers.
            network=Network("none") if local else Network("public"),
            timeout_s=VERIFIER_S + 120,
            leftovers="ended",
            carried=(WORKDIR,) if local else (),
        ),
        solution=parts / "solution",
        agent_timeout_s=AGENT_S,
        agent_network=Network("none"),
        category="software-engineering",
        difficulty=row.difficulty,
        cluster=row.repo,
        source=source,
    )


def _fill(folder: Path, row: _Row, python: Path | None) -> None:
    """Write the verifier and the oracle of a row."""
    tests, solution = folder / "tests", folder / "solution"
    script(tests / "test.sh", _VERIFIER)
    script(tests / "run.sh", _run(row, local=python is not None))
    shutil.copy(swebench_grade.__file__, tests / "grade.py")
    (tests / "test.patch").write_text(row.test_patch, encoding="utf-8")
    spec = {"parser": row.parser, "FAIL_TO_PASS": row.fail_to_pass, "PASS_TO_PASS": row.pass_to_pass}
    (tests / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    script(solution / "solve.sh", f"#!/bin/bash\nset -e\ncd {WORKDIR}\ngit apply -v /solution/gold.patch\n")
    if python is not None:
        shutil.copytree(python, tests / "python", copy_function=os.link)
    (solution / "gold.patch").write_text(row.patch, encoding="utf-8")


_VERIFIER = f"""\
#!/bin/bash
# Runs the tests for at most {VERIFIER_S:g} s and grades what they print.
export GIT_CONFIG_COUNT=3 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export GIT_CONFIG_KEY_1=core.hooksPath GIT_CONFIG_VALUE_1=/dev/null
export GIT_CONFIG_KEY_2=core.fsmonitor GIT_CONFIG_VALUE_2=false
python=/opt/miniconda3/bin/python
[ -x "$python" ] || python=$(command -v python3 || command -v python)
output=/logs/verifier/test_output.txt
mkdir -p /logs/verifier
timeout -k 10 {VERIFIER_S:.0f} bash /tests/run.sh > "$output" 2>&1
if [ $? -ge 124 ]; then echo '{swebench_grade.BROKEN[3]}' >> "$output"; fi
exec "$python" -I /tests/grade.py /tests/spec.json "$output" /logs/verifier
"""


def _run(row: _Row, *, local: bool) -> str:
    """Return the script that runs an instance's tests: its own, which knows its image, or one in the same steps."""
    if row.script and not local:
        return _telling_code(row.script)
    changed, added = files_of(row.test_patch)
    lines = ["#!/bin/bash", "set -uo pipefail"]
    if changed:
        lines += [f"git checkout -q {row.commit} -- {shlex.join(changed)} || echo '{swebench_grade.BROKEN[1]}'"]
    if added:
        lines += [f"rm -f -- {shlex.join(added)}"]
    lines += [f"git apply -v /tests/test.patch || echo '{swebench_grade.BROKEN[0]}'"] if row.test_patch.strip() else []
    lines += [
        f"echo '{swebench_grade.START}'",
        _local(row.command) if local else row.command,
        "code=$?",
        f"echo '{swebench_grade.END}'",
    ]
    lines += ['echo ">>>>> Test Exit Code: $code"']
    activate = "[ -f /opt/miniconda3/bin/activate ] && source /opt/miniconda3/bin/activate && conda activate testbed"
    return "\n".join([lines[0], activate, *lines[1:2], f"cd {WORKDIR}", *lines[2:]]) + "\n"


def _telling_code(text: str) -> str:
    """Return a row's script so that it prints the exit code of the tests, which end just before its end mark."""
    lines = text.split("\n")
    for at, line in enumerate(lines):
        if swebench_grade.END in line:
            lines[at : at + 1] = ["code=$?", line, 'echo ">>>>> Test Exit Code: $code"']
            break
    return "\n".join(lines)


def _local(command: str) -> str:
    """Return a command for a place that has pytest as a module only."""
    return f"python3 -m {command}" if command.split(maxsplit=1)[:1] == ["pytest"] else command


# --- checkouts


def _checkout(row: _Row, repos: Path, made: Maker) -> Path:
    """Return a repository at the row's commit, which is all of the history it has: later commits hold the answer."""
    owner, _, name = row.repo.rpartition("/")
    places = [repos / f"{owner}__{name}", repos / owner / name, repos / name, repos / f"{name}.git"]
    origin = next((each for each in places if _is_repository(each)), None)
    if origin is None:
        raise Unreadable(f"{row.repo} is not among the repositories in {repos}.")
    digest = digest_of({"format": FORMAT, "repo": row.repo, "commit": row.commit})
    return made.folder(digest, lambda folder: _fetch(origin, row.commit, folder))


def _is_repository(folder: Path) -> bool:
    return (folder / ".git").exists() or ((folder / "HEAD").is_file() and (folder / "objects").is_dir())


def _fetch(origin: Path, commit: str, folder: Path) -> None:
    any_commit = "git -c uploadpack.allowAnySHA1InWant=true upload-pack"
    source = origin.resolve().as_uri()
    _git(folder, "init", "-q", "-b", "main")
    whole = _git(origin, "rev-parse", "--verify", "-q", "--end-of-options", f"{commit}^{{commit}}").strip()
    _git(folder, "fetch", "-q", "--depth=1", "--no-tags", f"--upload-pack={any_commit}", source, whole)
    _git(folder, "checkout", "-q", "-B", "main", "FETCH_HEAD")
    (folder / ".git" / "FETCH_HEAD").unlink(missing_ok=True)
    shutil.rmtree(folder / ".git" / "logs", ignore_errors=True)


def _git(folder: Path, *words: str) -> str:
    """Run git without anybody's settings, hooks or prompts; raise `Unreadable` where it fails."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        **_GIT,
    }
    command = ["git", "-C", str(folder), "-c", "core.hooksPath=/dev/null", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())[-200:]
        raise Unreadable(f"git {words[0]} failed for {folder.name}: {said or 'no such commit'}.")
    return done.stdout
