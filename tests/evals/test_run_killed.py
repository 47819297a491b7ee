"""A run that is killed at any moment is gone on with: no trial lost, doubled or told wrong."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from lathe.evals.journal import Ended, RunFolder

COUNT = 100
KILLS = 30


@pytest.mark.timeout(300, func_only=True)
def test_a_hundred_trials_survive_thirty_kills(tmp_path: Path) -> None:
    dice = random.Random(7)
    folder = tmp_path / "run"
    command = [
        sys.executable,
        str(Path(__file__).with_name("trivial.py")),
        str(folder),
        str(COUNT),
        str(tmp_path / "c"),
    ]
    kills = 0
    while True:
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        ended = len(RunFolder(folder).state().ended)
        until = ended + dice.randint(1, 4)
        while process.poll() is None and kills < KILLS:
            # Kills fall at any time between two trials' ends, or within one.
            if len(RunFolder(folder).state().ended) >= until:
                time.sleep(dice.random() * 0.1)
                break
            time.sleep(0.005)
        if kills < KILLS and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.wait() == 0, (tmp_path / "log").read_text()
        break
    run = RunFolder(folder)
    ends = Counter(record.trial.id for record in run.records() if isinstance(record, Ended))
    assert len(ends) == COUNT and set(ends.values()) == {1}
    for trial in run.trials():
        number = int(trial.task.removeprefix("double-"))
        assert (trial.verdict, trial.reward) == ("scored", 0.0 if number % 3 == 0 and number else 1.0), trial
    assert kills == KILLS
