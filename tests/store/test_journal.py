from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lathe.protocol.errors import StorageError, UsageError
from lathe.protocol.events import AgentMessage, ItemCompleted
from lathe.protocol.items import FunctionCall, FunctionCallOutput, user_message
from lathe.protocol.usage import Usage
from lathe.store.journal import (
    CompactedRecord,
    EventRecord,
    ItemsRecord,
    Journal,
    StepRecord,
    ThreadRecord,
    TurnEndRecord,
    TurnRecord,
    records,
    replay,
)


def header(thread_id: str = "t1") -> ThreadRecord:
    return ThreadRecord(t=1, id=thread_id, cwd="/w", lathe="0")


def sample() -> list:
    return [
        TurnRecord(2, "turn", "m", "p", {"cwd": "/w"}),
        ItemsRecord((user_message("hällo\nthere"),)),
        ItemsRecord((FunctionCall("c1", "exec_command", '{"cmd":"ls"}'),)),
        StepRecord(Usage(10, 5, 3, cost_usd=0.5)),
        EventRecord(3, ItemCompleted(AgentMessage("i", "text"))),
        ItemsRecord((FunctionCallOutput("c1", "exit 0"),)),
        TurnEndRecord(4, "completed"),
    ]


def written(path: Path) -> Path:
    journal = Journal.create(path, header())
    for record in sample():
        journal.append(record)
    journal.close()
    return path


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = written(tmp_path / "t1.jsonl")
    assert list(records(path)) == [header(), *sample()]
    state = replay(path)
    assert [type(item).__name__ for item in state.items] == ["Message", "FunctionCall", "FunctionCallOutput"]
    assert state.usage == Usage(10, 5, 3, cost_usd=0.5)
    assert (state.turns, state.open_turn, state.items_since_step, state.model) == (1, False, 1, "m")


def test_a_compaction_starts_the_transcript_over(tmp_path: Path) -> None:
    path = written(tmp_path / "t1.jsonl")
    journal = Journal.open(path)
    journal.append(CompactedRecord((user_message("short"),)))
    journal.close()
    state = replay(path)
    assert state.items == [user_message("short")]
    assert state.generation == 1


def test_a_journal_cut_at_any_byte_opens_and_loses_only_the_torn_line(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.jsonl").read_bytes()
    first_line = whole.index(b"\n") + 1
    path = tmp_path / "cut.jsonl"
    for cut in range(first_line, len(whole) + 1):
        path.write_bytes(whole[:cut])
        journal = Journal.open(path)
        journal.append(TurnEndRecord(9, "resumed"))
        journal.close()
        complete = whole[:cut].count(b"\n")
        # A line that lacks only its line break is whole.
        if cut < len(whole) and whole[cut : cut + 1] == b"\n":
            complete += 1
        kept = list(records(path))
        assert kept == [*[header(), *sample()][:complete], TurnEndRecord(9, "resumed")]
        assert replay(path).damaged == 0


def test_a_damaged_line_in_the_middle_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "t1.jsonl")
    lines = path.read_bytes().split(b"\n")
    lines[5] = b'{"kind":"event","t":3,"ev\xff\x00'
    path.write_bytes(b"\n".join(lines))
    state = replay(path)
    assert state.damaged == 1
    assert len(state.items) == 3


def test_one_process_holds_a_journal(tmp_path: Path) -> None:
    path = written(tmp_path / "t1.jsonl")
    journal = Journal.open(path)
    try:
        with pytest.raises(UsageError, match="open in another"):
            Journal.open(path)
    finally:
        journal.close()
    Journal.open(path).close()


def test_a_missing_journal_and_another_file_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no thread"):
        Journal.open(tmp_path / "none.jsonl")
    other = tmp_path / "other.jsonl"
    other.write_text('{"kind":"turn_end","t":1,"status":"x"}\n')
    with pytest.raises(UsageError, match="not a thread"):
        replay(other)


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from lathe.store.journal import Journal, ItemsRecord
from lathe.protocol.items import user_message
from lathe.protocol.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
journal = Journal.open(path)
limit = path.stat().st_size + 1000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    journal.append(ItemsRecord((user_message("x" * 5000),)))
except StorageError as error:
    print(error)
journal.append(ItemsRecord((user_message("small"),)))
"""
    path = written(tmp_path / "t1.jsonl")
    result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "full" in result.stdout
    assert list(records(path)) == [header(), *sample(), ItemsRecord((user_message("small"),))]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="can't be written"):
        Journal.create(tmp_path / "file" / "t.jsonl", header())


def test_nothing_that_was_shown_is_lost_in_200_kills_at_random_points(tmp_path: Path) -> None:
    killing = Path(__file__).with_name("killing.py")
    result = subprocess.run([sys.executable, str(killing), str(tmp_path), "200"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 200
