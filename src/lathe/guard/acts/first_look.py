"""A first look at a line of shell: could a rule that comes with Lathe match it at all? Few lines need the rules."""

from __future__ import annotations

import re

PROGRAMS = frozenset(
    {
        *("auditctl", "autossh", "bore", "ccminer", "chisel", "chkconfig", "cookies.binarycookies", "cpuminer"),
        *("crontab", "dnscat", "dnscat2", "ethminer", "find", "frpc", "gcore", "gdb", "gost", "iodine", "key4.db"),
        *("ligolo", "login", "logins.json", "lolminer", "minerd", "nbminer", "nc", "nc.openbsd", "nc.traditional"),
        *("ncat", "netcat", "ngrok", "revsocks", "service", "socat", "ssh", "systemctl", "t-rex", "xmr-stak", "xmrig"),
    }
)
PIECES = frozenset(
    {
        *("--coin=monero", "--donate-level", "--nicehash", "--vacuum-size=1", "--vacuum-time=0", "--vacuum-time=1s"),
        *(".bash_history", ".sh_history", ".zsh_history", "/bin/bash", "/bin/sh", "/etc/gshadow", "/etc/master.passwd"),
        *("/etc/shadow", "/proc/", "/var/audit", "/var/log", "/var/spool/mail", "account", "audit", "auth.log"),
        *("btmp", "cron", "curl", "history", "init.d", "lastlog", "lazagne", "ld.so.preload", "linikatz", "messages"),
        *("mimipenguin", "pam.d", "procdump", "profile.d", "pty.spawn", "rc.local", "secure", "security", "spool"),
        *("stratum+ssl://", "stratum+tcp://", "stratum2+tcp://", "sudoers", "syslog", "system.log", "systemd", "tcp"),
        *("truffleproc", "udp", "update-motd.d", "wget", "wtmp"),
    }
)
"""What a line must have for one of the shipped rules to match: a test holds these lists against the rules."""
_QUOTES = dict.fromkeys(map(ord, "'\"\\"))
_WORD = re.compile(r"[\w.+-]+")
_SPELLS = re.compile(r"[\w/]\{[^{}\s]*,|\{[^{}\s]*,[^{}\s]*\}[\w/]|/\w*[?*]\w")
"""Words that may come out otherwise than they are written: braces within a word, patterns."""


def may_match(command: str) -> bool:
    """Tell whether a shipped rule could match a line; True is no more than a doubt."""
    if "$'" in command or (any(one in command for one in "{*?") and _SPELLS.search(command) is not None):
        return True
    text = command.replace("\\\n", "").translate(_QUOTES).lower()
    return any(piece in text for piece in PIECES) or not PROGRAMS.isdisjoint(_WORD.findall(text))
