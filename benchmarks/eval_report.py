"""What the report of a big run costs: to write, on disk, to load in a browser, and to open one trial in it.

The run has 125 tasks with four attempts; each trial has 60 steps whose commands print pieces of Python's own library,
a diff, and a terminal recording of all that. Baselines in the same run: the bytes of the trials' files, and the page of
a run with four such trials. Needs Chromium and playwright.

usage: eval_report.py [--check] [--json] [--tasks N]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from measuring import median, table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from browser import chromium

from lathe.evals.agents.base import Cost, Served
from lathe.evals.atif import Agent, Metrics, Observation, ObservationResult, Step, ToolCall, Trajectory, write
from lathe.evals.record import Plan, Times, Trial
from lathe.evals.report import write_report

BARS = {"page_mb": 40.0, "load_s": 2.0, "open_s": 1.0, "filter_s": 0.5}
STEPS = 60
ATTEMPTS = 4
ROUNDS = 5


def library() -> list[str]:
    """Return pieces of source code, 2 to 6 kB each."""
    chance, pieces = random.Random(1), []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text("utf-8", "replace")
        while len(text) > 6000:
            size = chance.randrange(2000, 6000)
            pieces.append(text[:size])
            text = text[size:]
    return pieces


def make(folder: Path, tasks: int) -> tuple[Plan, list[Trial], int]:
    """Write the files of a run; return its plan, its trials and how many bytes the files have."""
    pieces, chance, trials, size = library(), random.Random(2), [], 0
    names = [f"task-{number:03}" for number in range(tasks)]
    for name in names:
        for attempt in range(1, ATTEMPTS + 1):
            trial = f"{name}.{attempt}"
            own = folder / "trials" / trial
            (own / "verifier").mkdir(parents=True)
            printed = [chance.choice(pieces) for _ in range(STEPS)]
            files = {"trajectory.json": _trajectory(printed), "terminal.jsonl": _terminal(printed)}
            files["diff.patch"] = _diff(chance.sample(pieces, 3))
            files["verifier/output.txt"] = chance.choice(pieces).encode()
            for file, data in files.items():
                (own / file).write_bytes(data)
                size += len(data)
            trials.append(_trial(trial, name, attempt, chance))
    plan = Plan(
        id="big", dataset="big", dataset_name="big", dataset_version="1", agent="lathe", attempts=ATTEMPTS,
        tasks=tuple((name, "0") for name in names), model="m", environment="rootfs",
    )  # fmt: skip
    return plan, trials, size


def _trajectory(printed: list[str]) -> bytes:
    steps = [Step(step_id=1, source="user", message="Mend what is broken.")]
    for number, text in enumerate(printed, 2):
        call = ToolCall(f"c{number}", "exec_command", {"cmd": f"sed -n {number},{number + 90}p module.py"})
        result = Observation((ObservationResult(call.tool_call_id, text, extra={"exit_code": 0}),))
        steps.append(
            Step(
                step_id=number,
                source="agent",
                message=text[:200],
                tool_calls=(call,),
                observation=result,
                metrics=Metrics(9000 + number, 120, 8000),
            )
        )
    return write(Trajectory(schema_version="ATIF-v1.7", agent=Agent("lathe", "0"), steps=tuple(steps)))


def _terminal(printed: list[str]) -> bytes:
    lines = [json.dumps({"version": 2, "width": 120, "height": 40})]
    lines += [json.dumps([number * 2.5, "o", text.replace("\n", "\r\n")]) for number, text in enumerate(printed)]
    return "\n".join(lines).encode()


def _diff(pieces: list[str]) -> bytes:
    parts = []
    for number, text in enumerate(pieces):
        lines = text.splitlines()
        head = (
            f"diff --git a/f{number}.py b/f{number}.py\n--- /dev/null\n+++ b/f{number}.py\n@@ -0,0 +1,{len(lines)} @@\n"
        )
        parts.append(head + "".join(f"+{line}\n" for line in lines))
    return "".join(parts).encode()


def _trial(trial: str, name: str, attempt: int, chance: random.Random) -> Trial:
    model, tool = chance.uniform(20, 200), chance.uniform(5, 100)
    return Trial(
        id=trial, task=name, dataset="big", digest="0", cluster=name, agent="lathe", model="m", attempt=attempt,
        verdict="scored", reward=float(chance.random() < 0.5), began=1, ended="done", steps=STEPS + 1,
        times=Times(0, 0.2, model + tool, 3.0, model, tool, model + tool + 3.2), served=(Served("m", "m", STEPS),),
        cost=Cost(540_000, 480_000, 7_200, STEPS, chance.uniform(0.1, 2.0)), category=f"kind {int(name[-3:]) % 5}",
    )  # fmt: skip


def look(page: Path, trial: str) -> dict[str, float]:
    """Return the seconds to load a page, to open a trial in it, and to filter its table: medians of some rounds."""
    took: dict[str, list[float]] = {"load_s": [], "open_s": [], "filter_s": []}
    with chromium() as browser:
        for _ in range(ROUNDS):
            context = browser.new_context()
            shown = context.new_page()
            began = time.perf_counter()
            shown.goto(page.as_uri())
            shown.wait_for_selector("html[data-ready]")
            took["load_s"].append(time.perf_counter() - began)
            began = time.perf_counter()
            shown.get_by_label("Filter by words").fill("task-000")
            shown.locator("#list .count", has_text="1 of ").wait_for()
            took["filter_s"].append(time.perf_counter() - began)
            began = time.perf_counter()
            shown.goto(f"{page.as_uri()}#/trial/{trial}")
            shown.wait_for_selector("#trial .step")
            took["open_s"].append(time.perf_counter() - began)
            context.close()
    return {name: median(values) for name, values in took.items()}


def measured(folder: Path, tasks: int) -> dict[str, float]:
    """Return the figures of a run with so many tasks."""
    plan, trials, size = make(folder, tasks)
    began = time.process_time()
    write_report(folder, plan, trials)
    wrote = time.process_time() - began
    page = folder / "report.html"
    figures = {
        "trials": float(len(trials)),
        "files_mb": size / 1e6,
        "page_mb": page.stat().st_size / 1e6,
        "write_cpu_s": wrote,
    }
    return figures | look(page, trials[-1].id)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tasks", type=int, default=125)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, big = measured(Path(folder) / "small", 1), measured(Path(folder) / "big", options.tasks)
    if options.json:
        print(json.dumps({"small": small, "big": big, "bars": BARS}))
    else:
        rows = [
            [name, f"{small[name]:.2f}", f"{big[name]:.2f}", f"{BARS[name]:g}" if name in BARS else ""] for name in big
        ]
        print(table(["", f"{small['trials']:.0f} trials", f"{big['trials']:.0f} trials", "at most"], rows))
    return int(options.check and any(big[name] > bar for name, bar in BARS.items()))


if __name__ == "__main__":
    sys.exit(main())
