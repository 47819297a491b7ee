"""Finding the commit that broke a test, by halving the history in a clone that shares the repository's objects.

The person's tree, index and refs are never touched. The judge is the test as it is now: its file is put over each
older commit's; a commit where it cannot run is skipped.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from lathe.mend.chores.commands import Finished, finish
from lathe.mend.chores.outcome import ChoreReport
from lathe.mend.chores.trial import Suite, run_suite
from lathe.mend.workspace import Workspace, find_python
from lathe.protocol.errors import TurnError, UsageError

Mark: TypeAlias = Literal["good", "bad", "skip"]
Say: TypeAlias = Callable[[str], None]
_GIT_S = 60.0
_DIFF_LINES = 60
_FURTHEST = 4096
_CANNOT_RUN = ("ImportError", "ModuleNotFoundError", "SyntaxError")
_TEST_FILE = re.compile(r"(?:^|/)(?:test_[^/]*|[^/]*_test)\.py$")


class Commit(msgspec.Struct, frozen=True):
    """What a person is told of a commit."""

    id: str
    author: str
    date: str
    subject: str

    def __str__(self) -> str:
        return f"{self.id[:10]} ({self.date}, {self.author}) {self.subject}"


def bisect(path: Path, test: str, good: str, seconds: float, say: Say = lambda _: None) -> ChoreReport:
    """Return which commit broke `test` (a node id, a file or a name) since `good` (a ref; "" looks for one).

    Raises `UsageError` for what cannot be bisected: no git, a test that passes now, a `good` that is not; `TurnError`
    when the time is over.
    """
    with _clone(path.resolve()) as workspace:
        return _Bisection(workspace, find_python(path), test, seconds, say).run(good)


class _Bisection:
    def __init__(self, workspace: Workspace, python: str, test: str, seconds: float, say: Say) -> None:
        self._workspace = workspace
        self._python = python
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._say = say
        self._head = self._git("rev-parse", "HEAD").strip()
        self._oldest_bad = self._head
        self._args, self._file = self._arguments(test)
        self._name = test
        self._steps: list[str] = []
        self._marks: dict[str, Mark] = {}
        self._said = ""

    def run(self, good: str) -> ChoreReport:
        now = self._suite()
        if not now.outcomes:
            raise UsageError(
                f"No test {self._name} is found in the last commit.",
                hint="Name it as pytest does, and commit it first: tests/test_x.py::test_y.",
                code="no_tests",
            )
        if not now.failing:
            raise UsageError(
                f"{self._name} passes in the last commit, so no commit broke it.",
                hint="If it fails in your working tree, the change that broke it is not committed: see `git diff`.",
                code="passes",
            )
        self._said = now.said.get(now.failing[0], "")
        self._marks[self._head] = "bad"
        self._say(f"{self._head[:10]} bad, the last commit: {self._said}")
        known = self._known_good(good) if good else self._search_good()
        return self._report(known, self._halve(known))

    # --- the two ends

    def _known_good(self, good: str) -> str:
        done = self._try_git("rev-parse", "--verify", "--quiet", f"{good}^{{commit}}")
        if done.code != 0:
            done = self._try_git("rev-parse", "--verify", "--quiet", f"origin/{good}^{{commit}}")
        if done.code != 0:
            tags = ", ".join(self._git("tag", "--sort=-creatordate").split()[:8])
            raise UsageError(
                f"There is no commit, tag or branch {good} here.",
                hint=f"Tags: {tags}." if tags else "There are no tags.",
                code="no_ref",
            )
        commit = done.out.strip()
        mark = self._judge(commit)
        if mark != "good":
            how = "cannot run" if mark == "skip" else "fails"
            raise UsageError(
                f"{self._name} {how} at {good} already.", hint="Name an older one, or none at all.", code="not_good"
            )
        return commit

    def _search_good(self) -> str:
        """Return the nearest commit of 1, 2, 4, 8 ... back, on the first parents' line, where the test passes."""
        back = 1
        line = self._git("rev-list", "--first-parent", "HEAD").split()
        while back <= _FURTHEST:
            commit = line[min(back, len(line) - 1)]
            mark = self._judge(commit)
            if mark == "good":
                return commit
            if mark == "bad":
                self._oldest_bad = commit
            if back >= len(line) - 1:
                break
            back *= 2
        raise UsageError(
            f"{self._name} passes in none of the older commits that were tried ({len(self._marks) - 1} of them).",
            hint="If you know one where it passes, name it: `since v1.2`.",
            code="no_good",
        )

    # --- between

    def _halve(self, good: str) -> list[str]:
        """Return the commits of which one is the first bad one: a single one unless some could not be judged."""
        bad, goods = self._oldest_bad, [good]
        while True:
            left = [
                line.split()[0] for line in self._git("rev-list", "--bisect-all", bad, "--not", *goods).splitlines()
            ]
            commit = next((one for one in left if one not in self._marks), None)
            if commit is None:
                return [bad, *(one for one in left if one != bad)]
            mark = self._judge(commit)
            if mark == "bad":
                bad = commit
            elif mark == "good":
                goods.append(commit)

    def _judge(self, commit: str) -> Mark:
        if commit in self._marks:
            return self._marks[commit]
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TurnError(
                f"The time was over after {len(self._marks)} commits.",
                hint="Give more with --time (or `in 5 minutes`), or a nearer start with `since`.",
                code="time",
            )
        self._git("checkout", "--quiet", "--force", "--detach", commit)
        self._git("clean", "-fdxq")
        if self._file:
            self._git("checkout", "--quiet", self._head, "--", self._file)
        try:
            suite = self._suite()
        except UsageError:
            suite = Suite({}, {})
        mark = self._mark(suite)
        self._git("reset", "--hard", "--quiet")
        self._marks[commit] = mark
        line = f"{self._commit(commit)}: {mark}"
        self._steps.append(line)
        self._say(line)
        return mark

    def _mark(self, suite: Suite) -> Mark:
        if not suite.outcomes:
            return "skip"
        if not suite.failing:
            return "good" if "passed" in suite.outcomes.values() else "skip"
        first = suite.failing[0]
        said = suite.said.get(first, "")
        if said == self._said:
            return "bad"
        if suite.outcomes[first] == "error" or said.startswith(_CANNOT_RUN):
            return "skip"
        return "bad"

    def _suite(self) -> Suite:
        left = max(5.0, self._deadline - time.monotonic())
        suite = run_suite(self._workspace, self._python, self._args, left)
        own = {name for name in suite.outcomes if name.partition("[")[0].rpartition("::")[2] == self._name}
        if not own:
            return suite
        return Suite({name: suite.outcomes[name] for name in own}, suite.said)

    # --- the end

    def _report(self, good: str, culprits: list[str]) -> ChoreReport:
        count = int(self._git("rev-list", "--count", f"{good}..{self._head}"))
        evidence = [f"{count} commits lie between; {len(self._steps)} were tried", *self._steps]
        if len(culprits) > 1:
            lines = [str(self._commit(one)) for one in culprits]
            return ChoreReport(
                chore="bisect",
                status="rejected",
                summary=f"One of {len(culprits)} commits broke {self._name}; the test cannot run in the rest of them.",
                evidence=tuple(evidence),
                left=tuple(lines),
            )
        commit = self._commit(culprits[0])
        message = self._git("show", "--no-patch", "--format=%B", commit.id).strip()
        evidence += ["", f"commit {commit.id}", f"Author: {commit.author}", f"Date: {commit.date}", ""]
        evidence += [f"    {line}" for line in message.splitlines()[:12]]
        evidence += ["", *self._diff(commit.id)]
        return ChoreReport(
            chore="bisect",
            status="done",
            summary=f"{commit} broke {self._name}. Now it says: {self._said or 'nothing'}",
            evidence=tuple(evidence),
        )

    def _diff(self, commit: str) -> list[str]:
        """Return the commit's diff, without tests where it has more than those."""
        files = self._git("diff-tree", "--no-commit-id", "--name-only", "-r", "-m", "--root", commit).split("\n")
        code = [name for name in dict.fromkeys(files) if name.endswith(".py") and not _TEST_FILE.search(name)]
        shown = self._git("show", "--first-parent", "--format=", "--unified=2", commit, "--", *code).splitlines()
        return shown[:_DIFF_LINES] + ([f"… {len(shown) - _DIFF_LINES} more lines"] if len(shown) > _DIFF_LINES else [])

    def _commit(self, commit: str) -> Commit:
        fields = self._git("show", "--no-patch", "--format=%H%x00%an%x00%as%x00%s", commit).rstrip("\n").split("\0")
        return Commit(*fields)

    def _arguments(self, test: str) -> tuple[list[str], str]:
        """Return what pytest is told, and the file that holds the test, as far as it is known."""
        file = test.partition("::")[0]
        if file.endswith(".py"):
            listed = self._git("ls-files", "--", file, f"*/{file}").split("\n")
            place = next((name for name in listed if name), "")
            if not place:
                raise UsageError(
                    f"There is no file {file} in the last commit.", hint="Commit it first.", code="no_file"
                )
            return [test.replace(file, self._inside(place), 1)], place
        words = re.escape(test.split("[")[0].rpartition("::")[2])
        found = self._try_git("grep", "-lE", rf"def +{words}\b|class +{words}\b", "HEAD", "--", "*.py").out.split()
        places = [name.partition(":")[2] for name in found]
        place = places[0] if len(places) == 1 else ""
        return ([self._inside(place)] if place else []) + ["-k", test], place

    def _inside(self, path: str) -> str:
        inside = str(self._workspace.inside)
        return path if inside == "." else path.removeprefix(f"{inside}/")

    def _git(self, *words: str) -> str:
        done = self._try_git(*words)
        if done.code != 0:
            said = (done.err.strip().splitlines() or ["it said nothing"])[-1]
            raise TurnError(f"git {words[0]} failed: {said}", code="git")
        return done.out

    def _try_git(self, *words: str) -> Finished:
        return _run_git(self._workspace.root, *words)


@contextlib.contextmanager
def _clone(folder: Path) -> Iterator[Workspace]:
    """Clone the repository around `folder`, sharing its objects; the clone has refs and an index of its own."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.", hint="Name the folder of the project.")
    top = _run_git(folder, "rev-parse", "--show-toplevel")
    if top.code != 0:
        raise UsageError(
            "This is no git repository, so there is no history to look through.", hint="Ask inside one.", code="no_git"
        )
    if _run_git(folder, "rev-parse", "--verify", "--quiet", "HEAD").code != 0:
        raise UsageError("This repository has no commit yet.", hint="There is no history.", code="no_git")
    original = Path(top.out.rstrip("\n")).resolve()
    temporary = Path(tempfile.mkdtemp(prefix="lathe-mend-")).resolve()
    try:
        root = temporary / "tree" / original.name
        root.parent.mkdir()
        for name in ("home", "tmp"):
            (temporary / name).mkdir()
        done = _run_git(temporary, "clone", "--quiet", "--shared", "--no-hardlinks", str(original), str(root))
        if done.code != 0:
            raise TurnError(f"The repository could not be cloned: {done.err.strip().splitlines()[-1]}", code="git")
        yield Workspace(original, root, folder.relative_to(original), temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _run_git(folder: Path, *words: str) -> Finished:
    """Run git without hooks, monitors or questions."""
    safe = ["-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
    safe += ["-c", "advice.detachedHead=false", "-c", "gc.auto=0", "-c", "protocol.file.allow=always"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    return finish(["git", *safe, "-C", str(folder), *words], folder, seconds=_GIT_S, env=env)
