"""A first look at a line of shell: could a rule that comes with Lathe match it at all? Few lines need the rules."""

from __future__ import annotations

import re

PROGRAMS = frozenset(
    {
        *("auditctl", "autossh", "bore", "ccminer", "chisel", "chkconfig", "cpuminer", "crontab", "dnscat"),
        *("dnscat2", "ethminer", "frpc", "gcore", "gdb", "gost", "iodine", "journalctl", "ligolo"),
        *("lolminer", "minerd", "nbminer", "nc", "nc.openbsd", "nc.traditional", "ncat", "netcat", "ngrok"),
        *("revsocks", "service", "socat", "ssh", "systemctl", "t-rex", "xmr-stak", "xmrig"),
    }
)
PIECES = frozenset(
    {
        *("--coin=monero", "--donate-level", "--nicehash", ".aws", ".bash_history", ".gnupg", ".pem"),
        *(".sh_history", ".zsh_history", "/bin/bash", "/bin/sh", "/cookies.binarycookies", "/etc/gshadow"),
        *("/etc/master.passwd", "/etc/shadow", "/key4.db", "/logins.json", "/proc/", "/var/audit"),
        *("/var/log", "/var/spool/mail", "audit", "auth.log", "btmp", "cron", "curl", "data", "history"),
        *("id_ed25519", "id_rsa", "init.d", "lastlog", "lazagne", "ld.so.preload", "linikatz", "messages"),
        *("mimipenguin", "pam.d", "procdump", "profile.d", "pty.spawn", "rc.local", "secure", "security"),
        *("spool", "stratum+ssl://", "stratum+tcp://", "stratum2+tcp://", "sudoers", "syslog", "system.log"),
        *("systemd", "tcp", "truffleproc", "udp", "update-motd.d", "wget", "wtmp"),
    }
)
"""Of each rule the words of a clue that tells most; a test holds these lists against the rules that come with Lathe."""
_DECODERS = ("base64", "base32", "xxd")
_QUOTES = dict.fromkeys(map(ord, "'\"\\"))
_WORD = re.compile(r"[a-z0-9_.+-]+")
_BRACES = re.compile(r"[\w/]\{[^{}\s]*,|\{[^{}\s]*,[^{}\s]*\}[\w/]")


def may_match(command: str, cwd: str = "") -> bool:
    """Tell whether a shipped rule could match a line that runs in `cwd`; True is no more than a doubt.

    A line whose words may come out otherwise than they are written is always looked at: braces within a word, `$'…'`,
    texts that are decoded.
    """
    if "$'" in command or any(name in command for name in _DECODERS) or ("{" in command and _BRACES.search(command)):
        return True
    text = f"{command}\n{cwd}".replace("\\\n", "").translate(_QUOTES).lower()
    return any(piece in text for piece in PIECES) or not PROGRAMS.isdisjoint(_WORD.findall(text))
