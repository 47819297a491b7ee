"""The task that clients are given: a small repository whose test fails, and the script of a model that repairs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from serving import Models, Served

from lathe.models.script import Call, FreeformCall, Said, Step, Thought, Tokens, Words

TASK = "The test of this repository fails. Repair the code."
WRONG, RIGHT = "    return sum(values) / (len(values) - 1)\n", "    return sum(values) / len(values)\n"
COMMAND = f"{sys.executable} -B -m unittest -q"
END = Words("The test passes now.")
FAILED, PASSED = "FAILED (errors=", "OK"
USAGE = Tokens(input=1200, cached=200, output=80)
COST = round(1000 * 2.0 + 200 * 2.0 + 80 * 10.0)
"""Micro-dollars for `USAGE` at `serving.PRICE`, which has no price of its own for cached tokens."""


def repository(folder: Path) -> Path:
    """Make the repository in a new folder and return it."""
    folder.mkdir(parents=True)
    (folder / "mean.py").write_text(f'def mean(values):\n    """Return the mean."""\n{WRONG}')
    (folder / "test_mean.py").write_text(
        "import unittest\nfrom mean import mean\n\n\nclass MeanTest(unittest.TestCase):\n"
        "    def test_one_value(self):\n        self.assertEqual(mean([3]), 3)\n"
    )
    who = {f"GIT_{role}_{what}": "x@y" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run(["git", *arguments], cwd=folder, env={**os.environ, **who}, check=True)
    return folder


def script(test: Call | FreeformCall, *edits: Call | FreeformCall, end: Said = END) -> list[Step]:
    """A model that runs the test, edits the file, runs the test again and ends, in the client's own vocabulary."""
    first = Step(say=(Thought("It fails somewhere."), Words("The test comes first."), test), usage=USAGE)
    repairs = [Step(say=(edit,), usage=USAGE) for edit in edits]
    return [first, *repairs, Step(say=(test,), usage=USAGE), Step(say=(end,), usage=USAGE)]


def check(folder: Path, models: Models, served: Served, mark: int, model: str) -> None:
    """Assert that the file was repaired, and that every request was settled for what it used, with a receipt."""
    assert RIGHT in (folder / "mean.py").read_text()
    bodies = [request.body.decode() for request in models.requests]
    assert FAILED in bodies[1] and FAILED not in bodies[0], "the output of the first test did not reach the model"
    assert f"\\n{PASSED}\\n" in bodies[-1] or PASSED in _last(models), "the output of the second one did not"
    rows = [row for row in served.settled(mark) if row["input_tokens"] == USAGE.input]
    assert len(rows) == len(bodies)
    for row in rows:
        said = (row["state"], row["requested"], row["cached_tokens"], row["output_tokens"], row["cost"])
        assert said == ("done", model, USAGE.cached, USAGE.output, COST)
    receipts = {receipt.id: receipt for receipt in served.receipts(mark)}
    assert all(receipts[row["id"]].cost == row["cost"] for row in rows)


def _last(models: Models) -> str:
    asked: Any = models.requests[-1].json()
    return str((asked.get("input") or asked["messages"])[-1])
