"""How long `lathe resume` takes to read a journal of 100,000 events, beside the time to parse it with `json`.

usage: journal.py [--check] [--json] [--events N]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from measuring import median, table

from lathe.agent.thread import Thread
from lathe.protocol.events import CommandExecution, ItemCompleted, ItemStarted
from lathe.protocol.items import FunctionCall, FunctionCallOutput, user_message
from lathe.protocol.usage import Usage
from lathe.store.journal import EventRecord, ItemsRecord, Journal, StepRecord, ThreadRecord, TurnRecord

BAR_S = 1.0


def write(path: Path, events: int) -> None:
    """Write a journal of steps as a thread writes them: a call, its usage, two events and an output each."""
    journal = Journal.create(path, ThreadRecord(t=1, id=path.stem, cwd="/w", lathe="0"))
    journal.append(TurnRecord(1, "turn", "m", "p", {}), ItemsRecord((user_message("go"),)))
    output = "exit 0 · 0.0 s\n" + "a line of what a command printed\n" * 6
    for number in range(events // 2):
        call = FunctionCall(f"call_{number}", "exec_command", '{"cmd":"rg -n something src"}')
        shown = CommandExecution(f"item_{number}", "rg -n something src", "", None, "in_progress")
        ended = CommandExecution(f"item_{number}", "rg -n something src", output, 0, "completed", wall_ms=3.1)
        journal.append(
            ItemsRecord((call,)),
            StepRecord(Usage(1000, 900, 20)),
            EventRecord(number, ItemStarted(shown)),
            EventRecord(number, ItemCompleted(ended)),
            ItemsRecord((FunctionCallOutput(call.call_id, output),)),
        )
    journal.close()


def timed(path: Path) -> tuple[float, float]:
    """Seconds to resume, and seconds to parse every line with `json`."""
    began = time.perf_counter()
    thread = Thread.resume(path)
    resumed = time.perf_counter() - began
    thread.close()
    began = time.perf_counter()
    with path.open() as lines:
        for line in lines:
            json.loads(line)
    return resumed, time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 where the bar is missed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "thread.jsonl"
        write(path, options.events)
        size = path.stat().st_size / 2**20
        samples = [timed(path) for _ in range(5)]
    resume, plain = median([one for one, _ in samples]), median([other for _, other in samples])
    if options.json:
        print(json.dumps({"events": options.events, "mb": size, "resume_s": resume, "json_s": plain, "bar_s": BAR_S}))
    else:
        row = [f"{options.events:,}", f"{size:.0f}", f"{resume:.2f}", f"{plain:.2f}", f"{BAR_S:.0f}"]
        print(table(["events", "MB", "resume, s", "baseline: json.loads of each line, s", "bar, s"], [row]))
    return 1 if options.check and resume > BAR_S else 0


if __name__ == "__main__":
    sys.exit(main())
