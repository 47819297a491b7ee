"""Keeping candidates from writing to the files of the copy that tests read and candidates share."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_TRUNC
# Events by the places of the paths among their arguments.
_CHANGING = {
    "os.remove": (0,), "os.rename": (0, 1), "os.truncate": (0,), "os.rmdir": (0,), "os.chmod": (0,), "os.utime": (0,),
    "shutil.rmtree": (0,), "shutil.move": (0, 1),
}  # fmt: skip


def guard(root: str, touched: Collection[str]) -> None:
    """Refuse, from now on in this process, to change what lies in `root`.

    Spared are new files, and the paths in `touched`, relative to `root`, with the files in folders among them: what the
    unchanged tests write to. It holds for what Python itself does; who goes round it is no concern here, since it is
    about accidents and the copy is looked at now and then.
    """
    top = os.path.realpath(root) + os.sep
    spared = frozenset(touched)

    def is_kept(path: Any) -> bool:
        if not isinstance(path, (str, bytes)):
            return False
        whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (in a hook, at every file)
        if not whole.startswith(top):
            return False
        inside = whole[len(top) :]
        return inside not in spared and (os.path.dirname(inside) or ".") not in spared and os.path.lexists(whole)  # noqa: PTH120

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and is_kept(path):
                raise PermissionError(13, "Candidates may not change the project's files", path)
        elif event in _CHANGING and any(is_kept(arguments[place]) for place in _CHANGING[event]):
            raise PermissionError(13, "Candidates may not change the project's files", arguments[0])

    sys.addaudithook(hook)
