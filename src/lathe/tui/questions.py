"""Questions to the person: approvals, and what the model asks."""

from __future__ import annotations

from typing import Protocol

from lathe.agent.approvals import ApprovalAnswer, ApprovalQuestion
from lathe.tools.base import CallExternal, ReachHost, RunCommand, WriteFiles
from lathe.tui.view import View


class Asks(Protocol):
    """Where an answer is typed."""

    async def ask(self, hint: str) -> str:
        """Return the person's next input."""
        ...


async def ask_approval(question: ApprovalQuestion, view: View, screen: Asks) -> ApprovalAnswer:
    """Show what is wished in full and return the answer; words that are no key are a no with these words."""
    if question.held:
        return await _ask_held(question, view, screen)
    title, body, facts = _shown(question)
    if question.reason:
        facts.insert(0, f"why: {question.reason}")
    families = ", ".join(f"`{' '.join(one)} …`" for one in question.families)
    view.question(title, body, facts)
    # A family that is proposed is what either of the longer answers allows.
    longer = f"s this session or p this project: {families}" if families else "s this session, exactly this"
    hint = f"y once · {longer} · n no · or say what to do instead"
    while True:
        words = (await screen.ask(hint)).strip()
        key = words.lower()
        if not words:
            continue
        if key in ("n", "no"):
            view.declined("")
            return ApprovalAnswer("no")
        if key in ("y", "yes"):
            view.answer("allowed once", good=True)
            return ApprovalAnswer("once")
        if key == "s":
            view.answer(f"allowed for this session{f': {families}' if families else ''}", good=True)
            return ApprovalAnswer("session")
        if key == "p" and families:
            view.answer(f"allowed for this project: {families}", good=True)
            return ApprovalAnswer("project")
        if key == "p":
            view.note("There is no family of commands that would be safe to allow for good here: y, s or n.")
            continue
        view.declined(words)
        return ApprovalAnswer("no", words)


async def _ask_held(question: ApprovalQuestion, view: View, screen: Asks) -> ApprovalAnswer:
    """Ask about a call that the guard holds: it is about this call alone."""
    title, body, facts = _shown(question)
    view.question(f"the guard holds this: {title}", body, [*facts, *question.reason.split("\n")])
    keys = {"approve": "y run it", "wait": "w wait for the check", "drop": "n leave it out"}
    hint = " · ".join([*(keys[one] for one in question.held if one in keys), "or say what to do instead"])
    while True:
        words = (await screen.ask(hint)).strip()
        key = words.lower()
        if key in ("y", "yes") and "approve" in question.held:
            view.answer("allowed once", good=True)
            return ApprovalAnswer("once")
        if key in ("y", "yes"):
            view.note("This can't be approved here.")
        elif key in ("w", "wait") and "wait" in question.held:
            view.answer("waiting for the check", good=True)
            return ApprovalAnswer("wait")
        elif key in ("n", "no"):
            view.answer("left out", good=False)
            return ApprovalAnswer("no")
        elif words:
            view.answer(f"left out: {words}", good=False)
            return ApprovalAnswer("no", words)


async def ask_user(question: str, options: tuple[str, ...], view: View, screen: Asks) -> str | None:
    """Show the model's question; return the option that was picked or the person's words, None for none."""
    view.question("the model asks", question, [f"{number}. {option}" for number, option in enumerate(options, 1)])
    pick = f"1-{len(options)} picks, or answer" if len(options) > 1 else "answer"
    while True:
        words = (await screen.ask(f"{pick} in your own words · Enter alone: no answer")).strip()
        if not words:
            view.answer("no answer", good=False)
            return None
        if options and words.isascii() and words.isdigit():
            if not 1 <= int(words) <= len(options):
                view.note(f"There is no option {words}.")
                continue
            words = options[int(words) - 1]
        view.answer(words, good=True)
        return words


def _shown(question: ApprovalQuestion) -> tuple[str, str, list[str]]:
    """Return a title, what is wished in full, and facts about it."""
    match question.access:
        case (RunCommand(command=command, cwd=cwd, escalate=escalate),):
            where = "outside the sandbox, with all your rights" if escalate else "inside the sandbox"
            return "run this command?", command, [f"in:  {cwd}", f"how: {where}"]
        case (WriteFiles(paths=paths),):
            return f"write {'this file' if len(paths) == 1 else 'these files'}?", "\n".join(paths), []
        case (CallExternal(server=server, tool=tool, read_only=read_only),):
            says = ["the server says that it only reads"] if read_only else []
            return "call this tool?", f"{server}/{tool}", says
        case (ReachHost(host=host, port=port, program=program),):
            return "let it reach this host?", f"{host}:{port}", [f"by:  {program or 'a program that has ended'}"]
        case _:
            return "allow this?", question.question, []
