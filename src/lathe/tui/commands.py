"""What the slash commands do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from lathe.tui import slash
from lathe.tui.keys import HELP

if TYPE_CHECKING:
    from lathe.tui.session import Session

DIFF_LINES = 400
RESUME_CHOICES = 9


async def run_command(session: Session, command: slash.Command) -> None:
    """Do what `command` says, or say why not; raise `LatheError`."""
    if not command.known:
        session.view.problem(slash.unknown(command.name))
        return
    match command.name:
        case "/help":
            _help(session)
        case "/model":
            await _model(session, command.argument)
        case "/diff":
            await _diff(session)
        case "/undo":
            if _is_free(session, "/undo"):
                await _undo(session, command.argument)
        case "/compact":
            _compact(session)
        case "/status":
            _status(session)
        case "/new":
            if _is_free(session, "/new"):
                await session.new_thread()
                session.view.note("The next prompt begins a new thread.")
        case "/resume":
            if _is_free(session, "/resume"):
                await _resume(session, command.argument)
        case _:
            session.screen.leave()


def _is_free(session: Session, name: str) -> bool:
    if session.busy:
        session.view.problem(f"A turn is running: interrupt it with Ctrl-C first, then {name}.")
    return not session.busy


def _help(session: Session) -> None:
    rows = [*HELP, *slash.COMMANDS.items()]
    session.view.note("\n".join(f"  {name:<18} {does}" for name, does in rows), "")


async def _model(session: Session, name: str) -> None:
    if not name:
        session.view.note(f"The model is {session.model} ({session.provider}). /model NAME changes it.")
        return
    await session.set_model(name)
    session.view.note(f"From the next turn on: {session.model} ({session.provider}).")


async def _diff(session: Session) -> None:
    from lathe.cli.diff import thread_diff
    from lathe.store.threads import journal_path

    thread = session.thread
    if thread is None:
        session.view.note("There is no thread yet, so nothing has changed.")
        return
    text, _ = await asyncio.to_thread(thread_diff, session.home, journal_path(session.home, thread.id))
    diff = text.decode(errors="replace")
    if not diff.strip():
        session.view.note("Nothing has changed since the thread began.")
        return
    if left := session.view.diff(diff, DIFF_LINES):
        session.view.note(f"… {left:,} more lines: lathe diff {thread.id}")


async def _undo(session: Session, argument: str) -> None:
    from lathe.cli.undo import told

    files_only = argument == "files"
    if argument and not files_only and not (argument.isdigit() and int(argument)):
        session.view.problem("/undo takes a number of turns, `files`, or nothing.")
        return
    if session.thread is None:
        session.view.note("There is no turn to take back.")
        return
    taken = await session.take_back(int(argument) if argument.isdigit() else 1, files_only=files_only)
    session.view.note(told(taken, files_only=files_only).rstrip("\n"), "yellow" if taken.conflicts else "")
    if taken.turns and not files_only:
        session.screen.restore(taken.turns[0].request)


def _compact(session: Session) -> None:
    if session.thread is None:
        session.view.note("There is nothing to compact yet.")
        return
    session.thread.request_compaction()
    when = "at the next step" if session.busy else "before the next turn's first step"
    session.view.note(f"The conversation will be compacted {when}.")


def _status(session: Session) -> None:
    settings, thread = session.settings, session.thread
    rows = [
        ("thread", thread.id if thread else "none yet"),
        ("model", f"{session.model} ({session.provider})"),
        ("folder", str(session.cwd)),
        ("sandbox", f"{settings.sandbox}, network {'on' if settings.network else 'off'}"),
        ("approvals", settings.approve),
    ]
    if thread is not None:
        used = thread.usage_so_far
        cached = f" ({used.cached_input_tokens:,} cached)" if used.cached_input_tokens else ""
        rows.append(("tokens", f"{used.input_tokens:,} in{cached}, {used.output_tokens:,} out"))
        rows.append(("conversation", f"{thread.context_tokens:,} tokens"))
        rows.append(("cost", f"${used.cost_usd:.4f}" if used.cost_usd is not None else "no price is known"))
    session.view.note("\n".join(f"  {name:<13} {value}" for name, value in rows), "")


async def _resume(session: Session, wanted: str) -> None:
    from lathe.store.threads import find_thread, journal_path, list_threads

    if wanted.endswith(".jsonl"):
        path = Path(wanted)
    elif wanted:
        path = find_thread(session.home, wanted)
    else:
        current = session.thread.id if session.thread is not None else ""
        found = [one for one in list_threads(session.home, cwd=str(session.cwd)) if one.id != current]
        if not found:
            session.view.note("There is no other thread of this folder. /resume ID takes any (see `lathe threads`).")
            return
        chosen = await _choose(session, [(one.id, one.title) for one in found[:RESUME_CHOICES]])
        if chosen is None:
            return
        path = journal_path(session.home, chosen)
    await session.resume_thread(path)
    _recall(session, path)


async def _choose(session: Session, threads: list[tuple[str, str]]) -> str | None:
    from lathe.tui.questions import ask_user

    titles = tuple(f"{thread_id[:13]}  {' '.join(title.split())[:70]}" for thread_id, title in threads)
    answer = await ask_user("Which thread?", titles, session.view, session.screen)
    if answer is None:
        return None
    if answer in titles:
        return threads[titles.index(answer)][0]
    session.view.note("That is none of them.")
    return None


def _recall(session: Session, path: Path) -> None:
    """Show the last exchange, so that the person knows where the thread stands."""
    from lathe.protocol.items import Message, text_of
    from lathe.store.journal import replay
    from lathe.store.threads import is_request

    state = replay(path)
    asked = answered = ""
    for item in state.items:
        if not isinstance(item, Message):
            continue
        text = text_of(item)
        if is_request(item):
            asked, answered = text, ""
        elif item.role == "assistant":
            answered = text
    session.view.note(f"resumed {state.header.id} · {state.turns} turn{'s' if state.turns != 1 else ''}")
    if asked:
        session.view.said(asked)
    if answered:
        session.view.message(answered)
