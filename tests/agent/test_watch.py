"""What is said to go on in the background: while it may, nobody can tell whose a change is."""

from __future__ import annotations

import pytest

from lathe.agent.watch import goes_on


@pytest.mark.parametrize(
    "command",
    [
        *("sleep 9 &", "(sleep 9; rm x) >/dev/null 2>&1 &\necho 1", "nohup make", "setsid -f x", "tmux new -d"),
        *(
            "docker run -d nginx",
            "podman run --detach x",
            "echo rm x | at noon",
            "bash -c 'nohup x'",
            "server & sleep 1",
            "x $Y & z",
        ),
    ],
)
def test_what_may_go_on(command: str) -> None:
    assert goes_on(command)


@pytest.mark.parametrize(
    "command",
    [
        *("echo 'looked at the tests'", "git commit -m 'look at it; batch'", "git branch -d x", "[ -d src ] && ls"),
        *(
            "curl -d x=1 http://localhost",
            "base64 -d l",
            "grep 'a &' b",
            "make && make test",
            "make > $LOG 2>&1",
            "grep -r daemon .",
        ),
    ],
)
def test_what_does_not(command: str) -> None:
    assert not goes_on(command)
