"""Kills a writer of journals again and again: `killing.py FOLDER ROUNDS`; a small process, so that forks are cheap."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from lathe.protocol.items import user_message
from lathe.store.journal import ItemsRecord, Journal, ThreadRecord, replay


def write_until_killed(path: Path, number: int, say: int) -> None:
    journal = Journal.open(path)
    while True:
        journal.append(ItemsRecord((user_message(f"{number} " + "y" * (number % 997)),)))
        os.write(say, f"{number}\n".encode())
        number += 1


def kill_at_random(path: Path, generator: random.Random) -> None:
    """Raise AssertionError where something that was shown is missing, or something else than was written is there."""
    before = len(replay(path).items)
    ear, say = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ear)
        write_until_killed(path, before, say)
    os.close(say)
    with os.fdopen(ear, "rb") as lines:
        for _ in range(generator.randint(1, 12)):
            lines.readline()
        time.sleep(generator.random() * 0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        shown = [int(line) for line in lines.read().split(b"\n")[:-1]]
    Journal.open(path).close()
    numbers = [int(item.content[0].text.split()[0]) for item in replay(path).items]
    assert numbers == list(range(len(numbers)))
    assert not shown or len(numbers) > shown[-1]


if __name__ == "__main__":
    chance = random.Random(5)
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    for number in range(rounds):
        journal = folder / f"{number // 10}.jsonl"
        if not journal.exists():
            Journal.create(journal, ThreadRecord(t=1, id=journal.stem, cwd="/w", lathe="0")).close()
        kill_at_random(journal, chance)
    print(sum(len(replay(journal).items) for journal in folder.glob("*.jsonl")))
