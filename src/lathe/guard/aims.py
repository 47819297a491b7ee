"""At which hosts a line of shell is aimed, as far as its words tell: what they leave open is no target of anybody.

It is for who has a right to some targets and not to others, so it errs on one side: a word that may be another host
counts as one, and an act of which no host is spelled out is aimed at none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence

import msgspec

from lathe.guard.acts.monitor import observables
from lathe.guard.findings import Finding
from lathe.guard.shell import Part, analyse
from lathe.guard.shell_run import SSH_VALUED
from lathe.guard.wrappers import program_name

UNTOLD = "what the line does not spell out"
"""The name of a target that can't be told; no engagement has it."""
_CONNECT = frozenset(
    {
        *("ssh", "scp", "sftp", "rsync", "curl", "wget", "nc", "nc.traditional", "nc.openbsd", "ncat", "netcat"),
        *("socat", "telnet", "ftp", "lftp", "nmap", "masscan", "zmap", "hydra", "medusa", "ncrack", "sqlmap"),
        *("nikto", "gobuster", "ffuf", "feroxbuster", "dirb", "wfuzz", "nuclei", "whatweb", "wpscan", "msfconsole"),
        *("evil-winrm", "crackmapexec", "netexec", "nxc", "smbclient", "smbmap", "rpcclient", "ldapsearch"),
        *("enum4linux", "kerbrute", "openssl", "dig", "host", "nslookup", "ping", "traceroute", "subfinder"),
        *("amass", "sslscan", "testssl.sh", "autossh", "chisel", "http", "https", "git"),
    }
)
"""Programs that connect to the hosts among their words; what looks like a host is a file to others."""
_FILES = frozenset(
    {
        *("txt", "xml", "json", "jsonl", "log", "html", "csv", "nmap", "gnmap", "pcap", "yaml", "yml", "conf", "cfg"),
        *("out", "dat", "pdf", "png", "toml", "ini", "lst", "bak", "tmp", "sql", "pem", "crt", "key", "nse", "rb"),
    }
)
"""Ends of names of files that are no top-level domains."""
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>|;&`()]+", re.IGNORECASE)
_ODD = re.compile(r"0x[0-9a-f]+|\d{6,}", re.IGNORECASE)
"""An address written as one number; a port has five digits at most."""


def aimed(
    findings: Sequence[Finding], lines: Sequence[str], look: Callable[[str], Sequence[Finding]]
) -> tuple[Finding, ...]:
    """Return findings of acts, each with the hosts that the commands are aimed at by which it comes about.

    `look` looks at a command by itself. What names its targets already keeps them.
    """
    known: dict[str, list[tuple[str, ...]]] = {}
    sure = True
    for line in lines:
        read = analyse(line)
        sure &= not read.opaque and not read.broken
        wrappers = {part.inside for part in read.parts}
        for number, part in enumerate(read.parts):
            words = part.known
            if words is None:
                sure = False
            elif words and number not in wrappers:  # what a wrapper starts is read by itself
                hosts = hosts_of(part)
                for one in look(shlex.join(words)):
                    known.setdefault(_rule(one), []).append(hosts)
    return tuple(_with_targets(one, known.get(_rule(one), []) if sure else []) for one in findings)


def hosts_of(part: Part) -> tuple[str, ...]:
    """Return the hosts that a command connects to, `UNTOLD` among them for what may be one; () where it does not."""
    words = [word for word in part.words if word is not None]
    text = " ".join(words)
    if not words or (program_name(words[0]) not in _CONNECT and "://" not in text):
        return ()
    addresses = list(_URL.finditer(text))
    found = [_place(address[0]) for address in addresses]
    for kind, value, start, end in observables(text):
        inside = any(address.start() <= start and end <= address.end() for address in addresses)
        if kind not in ("hash", "url") and not inside and not _is_file(kind, value):
            found.append(value)
    if any(map(_ODD.fullmatch, words)) or (program_name(words[0]) in ("ssh", "autossh") and not _names_one(words)):
        found.append(UNTOLD)
    return tuple(dict.fromkeys(found))


def _place(url: str) -> str:
    """Return the part of an address that says where it leads, without a path that has escapes in it."""
    scheme, _, rest = url.partition("://")
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    return f"{scheme}://{place if '%' not in place else place.partition('/')[0]}"


def _names_one(words: Sequence[str]) -> bool:
    """Return whether the host of `ssh` is an address or a full name: what follows it is a command, not a host."""
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-"):
            return bool(observables(word))
        if word in SSH_VALUED:
            next(rest, None)
    return False


def _is_file(kind: str, value: str) -> bool:
    return kind == "domain" and value.rpartition(".")[2] in _FILES


def _rule(one: Finding) -> str:
    return str(one.evidence.get("rule", ""))


def _with_targets(one: Finding, seen: Sequence[tuple[str, ...]]) -> Finding:
    if one.monitor != "acts" or one.targets:
        return one
    names = dict.fromkeys(name for hosts in seen or [()] for name in hosts or (UNTOLD,))
    return msgspec.structs.replace(one, evidence={**one.evidence, "targets": list(names)})
