"""The keys of the prompt, beside those of a shell's line editor that prompt_toolkit brings."""

from __future__ import annotations

from typing import Protocol

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent


class Prompt(Protocol):
    """What the keys act on."""

    buffer: Buffer

    def enter(self) -> None: ...

    def cancel(self) -> None: ...

    def stop(self) -> bool: ...

    def leave(self) -> None: ...

    def complete(self) -> None: ...

    @property
    def is_busy(self) -> bool: ...


def bindings(prompt: Prompt) -> KeyBindings:
    """Return the bindings; see `HELP` for what they are to a person."""
    keys = KeyBindings()
    empty = Condition(lambda: not prompt.buffer.text)
    busy = Condition(lambda: prompt.is_busy)
    command = Condition(lambda: prompt.buffer.text.startswith("/"))

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        prompt.enter()

    @keys.add("c-j")
    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        prompt.buffer.insert_text("\n")

    @keys.add("c-c")
    @keys.add("<sigint>")
    def _(event: KeyPressEvent) -> None:
        prompt.cancel()

    @keys.add("c-d", filter=empty)
    def _(event: KeyPressEvent) -> None:
        prompt.leave()

    @keys.add("escape", filter=busy)
    def _(event: KeyPressEvent) -> None:
        prompt.stop()

    @keys.add("tab", filter=command)
    def _(event: KeyPressEvent) -> None:
        prompt.complete()

    @keys.add("tab", filter=~command)
    def _(event: KeyPressEvent) -> None:
        prompt.buffer.insert_text("    ")

    @keys.add("c-z")
    def _(event: KeyPressEvent) -> None:
        event.app.suspend_to_background()

    return keys


HELP = (
    ("Enter", "send; while a turn runs, the model reads it at its next step"),
    ("\\ Enter, Ctrl-J", "a new line in the prompt; a pasted block is one prompt"),
    ("Ctrl-C", "clear the line, or interrupt the turn; twice, leave"),
    ("Esc", "interrupt the turn"),
    ("Ctrl-D", "leave, at an empty prompt"),
    ("Up, Down", "earlier prompts"),
)
