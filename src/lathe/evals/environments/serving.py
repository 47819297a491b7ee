"""The exec server of a room: Lathe's own, which also starts programs as another user."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

from lathe.evals.environments import people
from lathe.sandbox import exec_server

if TYPE_CHECKING:
    import _socket

USER: Final = "LATHE_ROOM_USER"
"""A variable that says as whom a program is to run; it does not reach the program."""


class RoomServer(exec_server.Server):
    """Serves a runner from inside a room."""

    def __init__(self, link: _socket.socket, environment: dict[bytes, bytes]) -> None:
        super().__init__(link)
        self.environment = environment

    def spawn_now(self, argv: list[bytes], environment: dict[bytes, bytes], actions: list[tuple[int, ...]]) -> int:
        """Start a program as whom the environment says."""
        asked = os.fsdecode(environment.pop(USER.encode(), b""))
        if asked in ("", "root", "0", "0:0"):
            return super().spawn_now(argv, environment, actions)
        name, user, group, groups, home = people.find(asked)
        environment = {**environment, b"HOME": os.fsencode(home), b"USER": os.fsencode(name)}
        program = exec_server.program(argv[0], environment)
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            for _, source, target in actions:
                os.dup2(source, target)
            for number in exec_server.SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            os.setgroups(groups)
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
            os.execve(program, argv, environment)
        except OSError as error:
            os.write(2, f"{argv[0]!r} cannot be started: {error.strerror}\n".encode())
        finally:
            os._exit(126)
