"""`lathe guard policy`: what a change of data would do is seen before it does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lathe.cli.main import main
from lathe.guard import ledger, policy, taxonomy
from lathe.guard.findings import Finding
from lathe.guard.ladder import Situation, Target, decide
from lathe.guard.ledger import Entry
from lathe.guard.policy import shipped
from lathe.guard.trial import Recorded, recorded

CASES = Path(__file__).parent / "cases"
RULES = policy.SHIPPED.read_text()


def ran(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = main(["guard", "policy", *map(str, argv)])
    said = capsys.readouterr()
    return code, said.out, said.err


def situations(tmp_path: Path) -> Path:
    third = (Target("shop.example", "third"),)
    monitors: dict[str, Any] = {"topical": "ok", "reasoner": "ok", "acts": "ok"}
    lines = [
        recorded(Situation(monitors=monitors), "req_1", 1),
        recorded(Situation(monitors=monitors, findings=(Finding("reasoner", "exploit.chain", 0.9),)), "req_2", 2),
        recorded(
            Situation(monitors=monitors, findings=(Finding("reasoner", "exploit.develop", 0.7),), targets=third),
            "req_3", 3,
        ),
        recorded(Situation(monitors=monitors, findings=(Finding("acts", "exploit.chain", float("nan")),)), "req_4", 4),
    ]  # fmt: skip
    path = tmp_path / "situations.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert old in RULES
    path = tmp_path / "new.yaml"
    path.write_text(RULES.replace(old, new, 1))
    return path


def test_the_shipped_policy_holds_with_the_cases_of_the_repository(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran(capsys, "test", "--cases", CASES, "--json")
    said = json.loads(out)
    assert code == 0 and not said["failures"] and said["policy"] == shipped().hash
    assert said["passed"] == len(shipped().cases) + len(list(CASES.glob("*.json")))


def test_a_case_that_fails_is_named_and_told_by_the_exit_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = ran(capsys, "test", "--policy", changed(tmp_path, "only_read: log", "only_read: hold"))
    assert code == 1
    assert "FAILED traces of an attack in a log are nobody's act: log is wanted, hold was found" in out


def test_a_difference_of_policies_is_seen_over_recorded_situations(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    new = changed(tmp_path, "decides: 0.8", "decides: 0.6")
    code, out, _ = ran(capsys, "diff", policy.SHIPPED, new, situations(tmp_path))
    assert code == 0
    assert "1 of 4 situations are decided otherwise" in out
    assert "log exploit.develop → refuse exploit.develop  (req_3)" in out
    code, out, _ = ran(capsys, "diff", policy.SHIPPED, policy.SHIPPED, situations(tmp_path), "--json")
    assert json.loads(out)["changes"] == [] and json.loads(out)["situations"] == 4


def test_a_replay_counts_by_step_clause_and_tier(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = ran(capsys, "replay", situations(tmp_path), "--json")
    said = json.loads(out)
    assert code == 0 and (said["situations"], said["blocked"]) == (4, 1)
    assert said["by_step"] == {"allow": 1, "log": 2, "refuse": 1}
    assert said["by_clause"]["exploit.chain"] == {"refuse": 1} and said["by_clause"]["monitor.acts"] == {"log": 1}
    assert said["by_tier"] == {"default": said["by_step"]}
    assert "4 situations, 1 blocked" in ran(capsys, "replay", situations(tmp_path))[1]


def test_a_situation_without_json_is_kept_as_one_that_is_decided_alike() -> None:
    odd = Situation(carries="call", risky=True, findings=(Finding("acts", "exploit.chain", float("nan")),))
    again = msgspec.json.decode(recorded(odd, "req_1", 1), type=Recorded).situation
    assert decide(shipped(), again) == decide(shipped(), odd)


def test_limits_of_the_ledger_are_tried_on_recorded_decisions(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entries = [
        Entry(decision=f"dec_{at}", at=at, marks=("mark",), step="refuse", clause="malware.create", level="harmful",
              ground="outside", item=str(at))
        for at in range(2)
    ]  # fmt: skip
    path = tmp_path / "decisions.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, entries)))
    limits = tmp_path / "ledger.yaml"
    limits.write_text(ledger.SHIPPED.read_text().replace("enters: 8,", "enters: 18,"))
    code, out, _ = ran(capsys, "replay", "--ledger", limits, path)
    assert code == 0 and "1 actors would stand otherwise, by 2 decisions" in out and "watched (12) → clear" in out
    assert json.loads(ran(capsys, "replay", "--ledger", limits, path, "--json")[1])["actors"][0]["marks"] == ["mark"]


def test_the_policy_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ran(capsys, "show")
    assert code == 0 and shipped().hash in out
    assert all(clause in out for clause in shipped().taxonomy.clauses)
    assert "an engagement can allow it: yes" in ran(capsys, "show", "exploit.chain")[1]
    assert set(json.loads(ran(capsys, "show", "--json")[1])["monitors"]) == set(shipped().monitors)


@pytest.mark.parametrize(
    ("argv", "text", "sentence"),
    [
        (("show", "no.clause"), "", "There is no clause 'no.clause'."),
        (("test", "--policy", "FILE"), "version: 1\n", "is not what it should be"),
        (("test", "--taxonomy", "FILE"), "levels: [", "line"),
        (("test", "--cases", "FILE"), "", "is no folder with cases"),
        (
            ("replay", "FILE"),
            '{"situation": {}}\n{"situation": {"tear": 1}}\n',
            "line 2: Object contains",
        ),
        (("replay", "FILE"), "\x00", "line 1: "),
        (("replay", "/no/such/file"), "", "can't be read: No such file"),
        (("diff", "/no/such/file", "FILE", "FILE"), "", "can't be read: No such file"),
    ],
)
def test_a_wrong_file_is_told_in_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: tuple[str, ...], text: str, sentence: str
) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    code, _, err = ran(capsys, *(str(path) if one == "FILE" else one for one in argv))
    assert code == 2 and sentence in err and err.count("\n") == 1


def test_the_groups_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guard", "--help"]) == 0 and "policy" in capsys.readouterr().out
    assert main(["guard", "nonsense"]) == 2
    assert taxonomy.SHIPPED.exists()
