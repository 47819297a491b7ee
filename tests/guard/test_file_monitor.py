"""YARA rules over files: neutral ones, and the test file of EICAR."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from lathe.cli.main import main
from lathe.guard.acts.files import FileMonitor, YaraSource
from lathe.guard.intel import Intel
from lathe.guard.taxonomy import shipped
from lathe.protocol.errors import ConfigError

EICAR = b"".join((b"X5O!P%@AP[4\\PZX54(P^)7CC)7}", b"$EICAR-STANDARD-ANTIVIRUS-", b"TEST-FILE!$H+H*"))
RULES = """
rule marked : a_tag { meta: description = "a stand-in" license = "CC0-1.0" score = 75
  strings: $a = "a neutral marker" condition: $a }
rule by_name { condition: filename == "named.txt" }
rule broken { condition: nothing_of_that_name }
"""
SLOW = "rule slow { condition: for any i in (0..2000000000) : ( uint8(i % filesize) == 256 ) }"


@pytest.fixture(scope="module")
def monitor() -> FileMonitor:
    return FileMonitor([YaraSource("someone", RULES)])


def test_a_file_is_found_by_what_it_holds_and_by_its_name(monitor: FileMonitor, tmp_path: Path) -> None:
    (tmp_path / "eicar.com").write_bytes(EICAR)
    (found,) = monitor.look(tmp_path / "eicar.com", provenance="web")
    assert (found.monitor, found.clause, found.confidence) == ("acts", "defence.operate", 0.8)
    assert found.clause in shipped().clauses and found.spans[0].part == str(tmp_path / "eicar.com")
    (found,) = monitor.look(b"so: a neutral marker", part="call_1")
    assert (found.score, found.confidence) == (0.75, 0.5) and "'marked' of someone: a stand-in" in found.why
    assert (found.spans[0].start, found.spans[0].end) == (4, 20) and found.evidence["licence"] == "CC0-1.0"
    (tmp_path / "named.txt").write_bytes(b"")
    assert [one.evidence["rule"] for one in monitor.look(tmp_path / "named.txt")] == ["by_name"]
    odd = tmp_path / os.fsdecode(b"odd\xff.txt")
    odd.write_bytes(EICAR)
    assert monitor.look(odd)[0].spans[0].part.endswith("odd\ufffd.txt")
    packed = b"\x7fELF" + bytes(200) + b"UPX!"
    assert [one.evidence["rule"] for one in monitor.look(packed)] == ["packed_program"]
    assert not monitor.look(b"see rules for mimipenguin, UPX! and /proc/") and not monitor.look(b"")


def test_the_rules_of_lathe_name_clauses_of_the_taxonomy() -> None:
    from lathe.guard.acts.files import OWN

    text = OWN.read_text(encoding="utf-8")
    named = [line.split('"')[1] for line in text.splitlines() if "clause =" in line]
    assert len(named) == text.count("\nrule ") and set(named) <= shipped().clauses.keys()


def test_a_look_ends_and_says_how_it_went(tmp_path: Path) -> None:
    assert FileMonitor([YaraSource("slow", SLOW)], longest_s=1).inspect(b"x").state == "late"
    small = FileMonitor(largest=len(EICAR))
    looked = small.inspect(EICAR + b"x")
    assert looked.state == "flooded" and len(looked.findings) == 1
    assert small.inspect(tmp_path).state == small.inspect(Path("/dev/zero")).state == "ok"
    assert small.inspect(tmp_path / "gone").state == "ok"


def test_threads_look_at_once(monitor: FileMonitor) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(monitor.look(EICAR)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1, 1, 1, 1]


def test_rules_are_added_by_the_command_with_source_and_licence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATHE_HOME", str(tmp_path / "home"))
    store = Intel(tmp_path / "home")
    before = store.current_files()
    (tmp_path / "set.yar").write_text(RULES)
    (tmp_path / "other.yara").write_text("rule {")
    assert main(["guard", "intel", "add", str(tmp_path), "--source", "A set"]) == 0
    said = capsys.readouterr().out
    assert "Kept 0 indicators and 0 rules, and 2 YARA rules." in said and "the rule broken can't be used" in said
    assert "A set/other.yara holds no YARA rule that can be used: line 1 can't be read" in said
    assert main(["guard", "intel", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["yara"] == [
        {"source": "A set/set.yar", "rules": 2, "licence": "CC0-1.0"}
    ]
    assert store.current_files() is not before and store.current_files().look(b"a neutral marker")
    with pytest.raises(ConfigError, match="holds no YARA rule that can be used"):
        store.add_yara(YaraSource("empty", "rule broken { condition: nothing_of_that_name }"))
