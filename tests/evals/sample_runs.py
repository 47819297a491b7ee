"""Runs to report on: trials whose trajectories are threads of `lathe exec` with a scripted model, and whose terminals
are recordings of real programs. `python tests/evals/sample_runs.py FOLDER [TASKS ATTEMPTS]` makes one to look at."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import random
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from lathe.evals.agents.base import Cost, Served
from lathe.evals.atif import from_thread, write
from lathe.evals.record import Fault, Flag, Plan, Times, Trial
from lathe.models.script import Call, Step, Thought, Tokens, Words

HERE = Path(__file__).parent
BEFORE = "VAT = 0.19\n\n\ndef gross(net: float) -> float:\n    return net + VAT\n"
TEST = "from price import gross\n\n\ndef test_gross() -> None:\n    assert gross(100.0) == 119.0\n"
FIX = """*** Begin Patch
*** Update File: price.py
@@
 def gross(net: float) -> float:
-    return net + VAT
+    return net * (1 + VAT)
*** Add File: NOTES.md
+# What was wrong
+
+The rate was added, not applied.
*** End Patch"""
INSTRUCTION = (
    "The test in test_price.py fails. Find out why, mend price.py, and leave a note of what was wrong in NOTES.md.\n\n"
    "Do not change the test."
)
SHOW = r"""
printf 'Collecting files\n'; ls --color=always -l price.py test_price.py
for n in 1 2 3 4 5 6 7 8 9 10; do
  printf '\r\033[32m%.*s\033[0m%.*s %3d%%' $n '##########' $((10 - n)) '..........' $((n * 10))
  sleep 0.04
done
printf '\n\033[1mDone\033[0m in \033[36m0.4 s\033[0m\n'
"""


class Thread(NamedTuple):
    """What a thread left: its journal, its trajectory, and the diff of its folder."""

    journal: Path
    trajectory: bytes
    diff: bytes
    steps: int


def _call(command: str, *before: object) -> Step:
    said = (*before, Call("exec_command", json.dumps({"cmd": command})))
    return Step(say=said, usage=Tokens(input=2400, cached=1800, output=90, reasoning=20))  # type: ignore[arg-type]


def _answers(mends: bool) -> list[Step]:
    steps = [
        _call("ls -la && cat price.py test_price.py", Thought("First the files."), Words("I look at the module.")),
        _call("seq 1 60; python3 -c 'from price import gross; print(gross(100.0))'"),
    ]
    if mends:
        patch = Step(say=(Words("The rate is added, not applied."), Call("apply_patch", json.dumps({"input": FIX}))))
        steps += [patch, _call("python3 -c 'from price import gross; assert gross(100.0) == 119.0'")]
    return [*steps, Step(say=(Words("The module is mended." if mends else "I found nothing wrong."),))]


async def threads(folder: Path) -> list[Thread]:
    """Let a scripted model work twice: once it mends the fault, once it gives up."""
    sys.path.insert(0, str(HERE.parent))
    from running import scripted

    made = []
    for number, mends in enumerate((True, False)):
        work, home = folder / f"work-{number}", folder / f"home-{number}"
        work.mkdir(parents=True)
        (work / "price.py").write_text(BEFORE)
        (work / "test_price.py").write_text(TEST)
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(work)]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "as it was"]):
            subprocess.run([*git, *command], check=True)
        ran, _ = await scripted(_answers(mends), INSTRUCTION, cwd=work, env={"LATHE_HOME": str(home)})
        assert ran.code == 0, ran.err
        subprocess.run([*git, "add", "-A"], check=True)
        diff = subprocess.run([*git, "diff", "--cached", "HEAD"], check=True, capture_output=True).stdout
        [journal] = home.glob("threads/*.jsonl")
        trajectory = from_thread(journal)
        made.append(Thread(journal, write(trajectory), diff, len(trajectory.steps)))
    return made


def recording(folder: Path, command: str = SHOW) -> bytes:
    """Return what a shell script prints into a real terminal, as an asciicast."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(["bash", "-c", command], stdin=follower, stdout=follower, stderr=follower, cwd=folder)
    os.close(follower)
    lines, began = [json.dumps({"version": 2, "width": 100, "height": 24})], time.monotonic()
    while select.select([leader], [], [], 10)[0]:
        try:
            data = os.read(leader, 65536)
        except OSError:
            break
        lines.append(json.dumps([round(time.monotonic() - began, 3), "o", data.decode("utf-8", "replace")]))
    os.close(leader)
    process.wait()
    return ("\n".join(lines) + "\n").encode()


CATEGORIES = ("software-engineering", "security", "data-processing", "system-administration", "debugging")


def make_run(folder: Path, made: list[Thread], tasks: int, attempts: int, seed: int = 7) -> tuple[Plan, list[Trial]]:
    """Write a run of so many trials, with faults, flags, stand-ins and a substitution among them."""
    chance = random.Random(seed)
    tape = recording(folder.parent / "work-0")
    names = [
        f"{chance.choice(['fix', 'build', 'find', 'serve', 'parse'])}-{CATEGORIES[n % 5][:4]}-{n:03}"
        for n in range(tasks)
    ]
    trials = []
    for number, name in enumerate(names):
        skill = chance.random()
        for attempt in range(1, attempts + 1):
            trials.append(_trial(folder, made, tape, chance, name, number, attempt, chance.random() < skill))
    plan = Plan(
        id=folder.name,
        dataset="terminal-bench@2.0",
        dataset_name="terminal-bench",
        dataset_version="2.0",
        tasks=tuple((name, f"{number:064x}") for number, name in enumerate(names)),
        agent="lathe",
        agent_options={"effort": "high"},
        model="gpt-x-codex",
        attempts=attempts,
        environment="rootfs",
        lathe="0.1.0",
        created=1_795_886_695_000,
    )
    return plan, trials


def _trial(
    folder: Path,
    made: list[Thread],
    tape: bytes,
    chance: random.Random,
    name: str,
    number: int,
    attempt: int,
    good: bool,
) -> Trial:
    ident = f"{name}.{attempt}"
    category = CATEGORIES[number % len(CATEGORIES)]
    common = {
        "id": ident,
        "task": name,
        "dataset": "terminal-bench@2.0",
        "digest": f"{number:064x}",
        "cluster": name,
        "agent": "lathe",
        "model": "gpt-x-codex",
        "attempt": attempt,
        "environment": "rootfs",
        "category": category,
        "began": 1_795_886_695_000 + number * 60_000,
    }
    if chance.random() < 0.03:
        fault = Fault(
            chance.choice(["build", "start", "verify"]), "The base image could not be had: connection refused."
        )
        return Trial(**common, verdict="fault", reward=None, times=Times(), faults=(fault, fault), why=fault.why)
    thread = made[0 if good else 1]
    own = folder / "trials" / ident
    (own / "verifier").mkdir(parents=True)
    shutil.copy(thread.journal, own / "thread.jsonl")
    (own / "trajectory.json").write_bytes(thread.trajectory)
    (own / "diff.patch").write_bytes(thread.diff)
    (own / "terminal.jsonl").write_bytes(tape)
    reward = 1.0 if good else chance.choice([0.0, 0.0, 0.0, 0.5])
    (own / "verifier" / "reward.txt").write_text(f"{reward}\n")
    tests = [
        {"name": "test_gross", "status": "passed" if good else "failed", "message": "" if good else "100.19 != 119.0"}
    ]
    (own / "verifier" / "ctrf.json").write_text(json.dumps({"results": {"tests": tests}}))
    (own / "verifier" / "output.txt").write_text(f"{'1 passed' if good else '1 failed'} in 0.12s\n")
    model, tool, verify = chance.lognormvariate(4, 0.6), chance.lognormvariate(3, 0.7), chance.uniform(2, 20)
    swapped = chance.random() < 0.04
    served = [Served("gpt-x-codex", "gpt-x-codex", 5)]
    if swapped:
        served.append(Served("gpt-x-codex", "gpt-x-mini", 2, "cyber: high, tier standard"))
    flags = (
        (Flag("reads-tests", 0.9, "It read /tests/test_outputs.py in step 4.", "step 4"),)
        if chance.random() < 0.03
        else ()
    )
    return Trial(
        **common,
        verdict="scored",
        reward=reward,
        rewards={"reward": reward},
        times=Times(0.0, 0.3, model + tool + 1, verify, model, tool, model + tool + verify + 1.3),
        ended="done" if good or chance.random() < 0.8 else "timeout",
        answer="The module is mended." if good else "I found nothing wrong.",
        cost=Cost(9600, 7200, 380, 5, chance.lognormvariate(-2.4, 0.7)),
        served=tuple(served),
        steps=thread.steps,
        standins=("ubuntu:24.04",) if number % 9 == 0 else (),
        trajectory="trajectory.json",
        thread="thread.jsonl",
        flags=flags,
    )


def main() -> None:
    from lathe.evals.report import write_report

    folder = Path(sys.argv[1])
    tasks, attempts = (int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 3 else (24, 4)
    shutil.rmtree(folder, ignore_errors=True)
    made = asyncio.run(threads(folder))
    plan, trials = make_run(folder / "run", made, tasks, attempts)
    began = time.monotonic()
    write_report(folder / "run", plan, trials)
    page = folder / "run" / "report.html"
    print(f"{len(trials)} trials, {page.stat().st_size / 1e6:.2f} MB in {time.monotonic() - began:.1f} s: {page}")


if __name__ == "__main__":
    main()
