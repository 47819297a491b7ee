"""Text on its way out in pieces, with the secrets in it hidden wherever the pieces break."""

from __future__ import annotations

from lathe.tools.base import Hiding


class Passing:
    """Hides secrets in text that comes in pieces.

    `line` is the beginning of the line that the first piece goes on with, known already or not to be shown.
    """

    def __init__(self, hiding: Hiding, line: str = "") -> None:
        self._hiding = hiding
        self._line = line  # of the current line, what is out already
        self._waiting = ""

    @property
    def unfinished(self) -> str:
        """The current line so far, secrets and all, with what waits behind it."""
        return self._line + self._waiting

    def add(self, text: str, *, more: bool) -> str:
        """Return what can be shown now; with `more` to come, the end may wait."""
        whole = self._line + self._waiting + text
        end = max(self._hiding.waits(whole), len(self._line)) if more else len(whole)
        now, self._waiting = whole[:end], whole[end:]
        hidden = self._hiding.hide(now)
        if self._line:
            # A secret that began in what is out already is hidden from here on.
            out = self._hiding.hide(self._line)
            same = next((at for at, pair in enumerate(zip(out, hidden, strict=False)) if pair[0] != pair[1]), len(out))
            hidden = hidden[same:]
        self._line = now[now.rfind("\n") + 1 :]
        return hidden
