"""What a verifier left is read as Harbor reads it: `reward.json` before `reward.txt`, and nothing doubtful counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lathe.evals.formats.rewards import RewardError, flag_reward, read_rewards
from lathe.evals.task import VerifierSpec


def left(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        (folder / name.replace("_", ".")).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"reward_txt": b"1\n"}, {"reward": 1.0}),
        ({"reward_txt": b" 0.25 "}, {"reward": 0.25}),
        ({"reward_txt": b"-3e-1"}, {"reward": -0.3}),
        ({"reward_json": b'{"reward": 1, "style": 0.5}'}, {"reward": 1.0, "style": 0.5}),
        ({"reward_json": b'{"passed": true}'}, {"passed": 1.0}),
        ({"reward_json": b'{"reward": 0}', "reward_txt": b"1"}, {"reward": 0.0}),
    ],
)
def test_a_reward_is_read(tmp_path: Path, files: dict[str, bytes], expected: dict[str, float]) -> None:
    assert read_rewards(left(tmp_path, **files)) == expected


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({}, "neither"),
        ({"reward_txt": b""}, "empty"),
        ({"reward_txt": b"\n"}, "no number"),
        ({"reward_txt": b"yes"}, "no number"),
        ({"reward_txt": b"1 1"}, "no number"),
        ({"reward_txt": b"nan"}, "finite"),
        ({"reward_txt": b"1e999"}, "finite"),
        ({"reward_txt": b"\xff1"}, "no number"),
        ({"reward_txt": b"1" * (2**20 + 1)}, "larger"),
        ({"reward_json": b"", "reward_txt": b"1"}, "empty"),
        ({"reward_json": b"{", "reward_txt": b"1"}, "no JSON"),
        ({"reward_json": b"{}"}, "by name"),
        ({"reward_json": b"1"}, "by name"),
        ({"reward_json": b'{"reward": "1"}'}, "no number"),
        ({"reward_json": b'{"reward": null}'}, "no number"),
        ({"reward_json": b'{"reward": NaN}'}, "finite"),
        ({"reward_json": b'{"reward": 1' + b"0" * 400 + b"}"}, "finite"),
        ({"reward_json": b'{"reward": 1' + b"0" * 9000 + b"}"}, "no JSON"),
        ({"reward_json": b"[" * 100_000}, "no JSON"),
    ],
)
def test_a_doubtful_reward_is_a_fault(tmp_path: Path, files: dict[str, bytes], word: str) -> None:
    with pytest.raises(RewardError, match=word):
        read_rewards(left(tmp_path, **files))


def test_a_reward_is_a_file_and_nothing_else(tmp_path: Path) -> None:
    secret = tmp_path / "one"
    secret.write_text("1")
    for number, make in enumerate((lambda path: path.symlink_to(secret), os.mkfifo, os.mkdir)):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / "reward.txt")
        with pytest.raises(RewardError):
            read_rewards(folder)


@pytest.mark.parametrize(
    ("rule", "answer", "reward"),
    [
        ("contained", "It is flag{A}, I think.", 1.0),
        ("contained", "It is FLAG{a}.", 0.0),
        ("last-line", "It is\n flag{A} \n\n", 1.0),
        ("last-line", "flag{A} is it", 0.0),
        ("last-line", "flag{A}\nor flag{B}", 0.0),
        ("last-line-any-case", "found:\nFLAG{a}", 1.0),
        ("last-line-any-case", "", 0.0),
    ],
)
def test_a_flag_counts_as_its_set_says(rule: str, answer: str, reward: float) -> None:
    assert flag_reward(VerifierSpec(flag="flag{A}", flag_rule=rule), answer) == reward  # type: ignore[arg-type]
