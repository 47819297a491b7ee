"""Blocked content stays out of a thread, whatever becomes of the thread, and the thread goes on."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lathe.agent.compaction import Kept, compacted
from lathe.guard.findings import Finding, Span
from lathe.guard.ladder import Situation, decide
from lathe.guard.policy import shipped
from lathe.guard.quarantine import (
    Blocked,
    Looked,
    blocks_in_a_row,
    identity,
    joined,
    let_in,
    released,
    set_aside,
    without,
)
from lathe.protocol.codec import decode_json, encode
from lathe.protocol.ids import new_id
from lathe.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    OpaqueItem,
    Reasoning,
    SummaryText,
    assistant_message,
    developer_message,
    user_message,
)
from lathe.store.journal import ItemsRecord, Journal, ThreadRecord, now_ms, replay
from lathe.store.threads import fork_thread, journal_path

POLICY = shipped()
_numbers = count()
BENIGN = user_message("Please tidy the imports.")


def texts() -> st.SearchStrategy[str]:
    """Texts that no other item of the run has, long and short ones."""
    words = st.lists(st.sampled_from(["red", "green", "blue", '"', "\\", "é", "\n"]), max_size=60).map(" ".join)
    return st.builds(lambda text: f"mark{next(_numbers)}x {text}", words)


def call(name: str, text: str, output: str) -> list[Item]:
    id = f"call_{next(_numbers)}"
    return [FunctionCall(id, name, encode({"cmd": text}).decode()), FunctionCallOutput(id, output)]


def custom(text: str, output: str) -> list[Item]:
    id = f"call_{next(_numbers)}"
    return [CustomToolCall(id, "apply_patch", text), CustomToolCallOutput(id, output)]


pieces = st.one_of(
    texts().map(lambda text: [user_message(text)]),
    texts().map(lambda text: [developer_message(text)]),
    texts().map(lambda text: [assistant_message(text)]),
    texts().map(lambda text: [Reasoning((SummaryText(text),), encrypted_content=text, source="responses")]),
    texts().map(lambda text: [OpaqueItem({"type": "web_search_call", "id": "ws_1", "query": text}, "responses")]),
    st.builds(lambda text, output: call("exec_command", text, output), texts(), texts()),
    st.builds(custom, texts(), texts()),
)
threads = st.lists(pieces, min_size=1, max_size=10).map(lambda all: [item for piece in all for item in piece])


def block(*items: Item) -> tuple[Blocked, ...]:
    return tuple(
        Blocked(identity=identity(one), code="cyber_case", clause="exploit.chain", decision=f"dec_{at}")
        for at, one in enumerate(items)
    )


def marks(items: list[Item]) -> set[str]:
    return {word for item in items for word in encode(item).decode().replace('"', " ").split() if word[:4] == "mark"}


@st.composite
def blocked_threads(draw: st.DrawFn) -> tuple[list[Item], list[Item], tuple[Blocked, ...]]:
    items = draw(threads)
    chosen = [item for item in items if draw(st.booleans())]
    return items, chosen, block(*chosen)


def is_out(chosen: list[Item], items: list[Item]) -> bool:
    return not marks(chosen) & marks(items) and not {identity(one) for one in chosen} & set(map(identity, items))


@given(blocked_threads())
def test_only_what_is_blocked_goes_and_once_is_enough(case: tuple[list[Item], list[Item], tuple[Blocked, ...]]) -> None:
    items, chosen, blocked = case
    left = without(items, blocked)
    assert is_out(chosen, left)
    assert without(left, blocked) == left
    gone = {item.call_id for item in chosen if isinstance(item, FunctionCall | CustomToolCall)}
    others = [item for item in items if item not in chosen and getattr(item, "call_id", "") not in gone]
    assert [item for item in left if item in others] == others
    calls = {one.call_id for one in left if isinstance(one, FunctionCall | CustomToolCall)}
    outputs = {one.call_id for one in left if isinstance(one, FunctionCallOutput | CustomToolCallOutput)}
    assert calls == outputs
    for one in left:
        if isinstance(one, FunctionCall):
            decode_json(one.arguments)


@given(blocked_threads(), threads)
def test_what_was_sent_before_stays_a_prefix(
    case: tuple[list[Item], list[Item], tuple[Blocked, ...]], more: list[Item]
) -> None:
    items, _, blocked = case
    longer = without([*items, *more], blocked)
    assert longer[: len(without(items, blocked))] == without(items, blocked)
    assert without(items, ()) == items


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(blocked_threads(), st.sampled_from([900, 4_000, 200_000]))
def test_nothing_comes_back_by_resume_fork_compaction_retry_or_sub_agent(
    tmp_path: Path, case: tuple[list[Item], list[Item], tuple[Blocked, ...]], window: int
) -> None:
    items, chosen, blocked = case
    thread = new_id()
    journal = Journal.create(journal_path(tmp_path, thread), ThreadRecord(now_ms(), thread, "/", "test"))
    journal.append(ItemsRecord(tuple(items)), ItemsRecord((BENIGN,)))
    journal.close()
    kept = msgspec.json.decode(msgspec.json.encode(blocked), type=tuple[Blocked, ...])

    resumed = replay(journal_path(tmp_path, thread)).items
    forked = replay(journal_path(tmp_path, fork_thread(tmp_path, journal_path(tmp_path, thread)))).items
    retried = [*resumed, *(renamed(item) for item in chosen)]
    for found in (resumed, forked, retried):
        sent = without(found, kept)
        assert is_out(chosen, sent) and BENIGN in sent
        short = compacted(sent, [], Kept(), "What was done so far.", window)
        assert is_out(chosen, short) and is_out(chosen, without([*short, BENIGN], kept))
    sub_agent = without([user_message("A part of the task."), *retried], joined((), kept))
    assert is_out(chosen, sub_agent)

    measure = decide(POLICY, Situation(monitors={"topical": "ok"}, blocks=0))
    assert measure.step == "allow"


def renamed(item: Item) -> Item:
    """Return the same item as a retry sends it: with another id, its text in one piece."""
    match item:
        case Message(role=role):
            return Message(role, (InputText(" ".join(part.text for part in item.content)),), id="msg_again")  # type: ignore[union-attr]
        case FunctionCall() | CustomToolCall() | FunctionCallOutput() | CustomToolCallOutput():
            return msgspec.structs.replace(item, call_id=f"{item.call_id}_again")
        case OpaqueItem():
            return OpaqueItem({**item.raw, "id": "ws_again"}, item.source)
        case _:
            return item


def refused(part: str, by: str, **more: object) -> object:
    span = Span(part, 0, 4, by)  # type: ignore[arg-type]
    finding = Finding("reasoner", "malware.create", 0.95, (span,))
    return decide(POLICY, Situation(findings=(finding,), monitors={"reasoner": "ok"}, **more))  # type: ignore[arg-type]


def test_a_measure_sets_aside_the_item_that_its_evidence_names() -> None:
    items: dict[str, Item] = {
        "log": FunctionCallOutput("call_1", "the log"),
        "asked": user_message("the request"),
        "answer": Message("assistant", (InputText("the answer"),), id="msg_1"),
        "call_2": FunctionCall("call_2", "exec_command", "{}"),
    }
    for measure, names in (
        (refused("asked", "person"), ["asked"]),
        (refused("answer", "model"), ["answer"]),
        (refused("call_2", "model", carries="call", subject="call_2"), ["call_2"]),
        (refused("elsewhere", "person"), ["asked"]),
        (refused("log", "file"), []),
    ):
        blocked = set_aside(measure, items, newest="asked", decision="dec_1")  # type: ignore[arg-type]
        assert [one.identity for one in blocked] == [identity(items[name]) for name in names]
    answer = set_aside(refused("answer", "model"), items, newest="asked", decision="dec_1")  # type: ignore[arg-type]
    torn = Message("assistant", (InputText("the ans"),), id="msg_1")
    assert "ans" not in encode(without([torn], answer)).decode(), "a dropped stream left a part of it"
    edited = Message("user", (InputText("something else"),), id="msg_1")
    assert without([edited], answer) == [edited], "new words under an old id are new"


def test_a_reversal_puts_the_item_back() -> None:
    item = user_message("the request")
    blocked = block(item)
    assert without([item], released(blocked, "dec_0")) == [item]


def test_what_was_blocked_and_is_then_served_stays_in_the_thread() -> None:
    item, other = user_message("the request"), user_message("another")
    blocked = block(item, other)
    again = Message("user", (InputText("the request"),), id="msg_again")
    assert without([item, other, again], let_in(blocked, [again]))[::2] == [item, again]
    assert without([other], let_in(blocked, [again])) != [other]


def test_blocks_in_a_row_count_different_items_since_the_last_that_was_served() -> None:
    looked = [Looked("a", True), Looked("b", False), Looked("c", True), Looked("c", True), Looked("d", True)]
    assert blocks_in_a_row(looked) == 2
    assert blocks_in_a_row([*looked, Looked("e", False)]) == 0
