"""What takes the machine apart: disks, processes, users, services, timed jobs, and Lathe's own guard."""

from __future__ import annotations

import re
from collections.abc import Callable

from lathe.guard.danger import Danger, Site, options

_DISKS = frozenset(
    {
        *("mke2fs", "mkswap", "wipefs", "blkdiscard", "badblocks", "pvremove", "vgremove", "lvremove", "pvcreate"),
        *("mkdosfs", "mkntfs", "sgdisk", "gdisk", "cfdisk", "flashcp", "flash_erase", "nvme-format"),
    }
)
_STOPS = frozenset({"shutdown", "reboot", "poweroff", "halt", "telinit", "killall5"})
_WATCHERS = re.compile(
    r"(?:auditd|apparmor|falco\S*|osqueryd|crowdstrike\S*|falcon-sensor|lathe\S*|clamav\S*|ufw|firewalld)(?:\.service)?"
)
_LATHE = re.compile(r"(?:^|[ /-])lathe\b")


def read(words: tuple[str, ...], site: Site) -> list[Danger]:
    """Return the dangers of a command that works on the machine itself."""
    name = words[0]
    if name in _DISKS or name.startswith("mkfs"):
        return _disk(words, site)
    if name in _STOPS:
        return [Danger("stops", "the machine", "machine")] if "--help" not in words and "-c" not in words else []
    reader = _READERS.get(name)
    return reader(words, site) if reader is not None else []


def _machine(act: str, target: str) -> list[Danger]:
    return [Danger(act, target, "machine")]


def _disk(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "tLbNUmEO")
    if given.has("n", "no-act", "l", "list", "p", "print", "V", "h", "help") and words[0] not in (
        "mkfs.vfat",
        "mkfs.fat",
        "mkdosfs",
    ):
        return []
    if words[0] == "badblocks" and not given.has("w"):
        return []
    target = (given.operands or ("a disk",))[-1]
    found = site.reach(target) if words[0].startswith("mk") else "machine"  # only these are of use on a plain file
    return [Danger("overwrites the disk", target, found)] if found != "scratch" else []


def _partition(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    if given.has("l", "list", "d", "dump", "s") and words[0] != "parted":
        return []
    devices = [word for word in given.operands if word.startswith("/dev/")]
    if words[0] == "parted" and not set(given.operands) & {"mklabel", "mktable", "rm", "mkpart", "resizepart"}:
        return []
    return _machine("changes the partitions of", devices[0]) if devices else []


def _crypt(words: tuple[str, ...], site: Site) -> list[Danger]:
    verbs = {"luksFormat", "erase", "luksErase", "luksRemoveKey", "luksKillSlot", "reencrypt"}
    return _machine("overwrites", words[-1]) if verbs & set(words) else []


def _pools(words: tuple[str, ...], site: Site) -> list[Danger]:
    verbs = {"zfs": ("destroy", "rollback"), "zpool": ("destroy", "labelclear"), "btrfs": ("delete",)}
    hit = set(verbs[words[0]]) & set(words[1:3])
    return _machine("destroys", words[-1]) if hit and "-n" not in words else []


def _arrays(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    if given.has("zero-superblock", "stop") or any("secure-erase" in f or "security-erase" in f for f in given.flags):
        return _machine("destroys", words[-1])
    return _machine("formats", words[-1]) if words[:2] in (("nvme", "format"), ("nvme", "sanitize")) else []


def _kill(words: tuple[str, ...], site: Site) -> list[Danger]:
    operands = [word for at, word in enumerate(words[1:]) if at > 0 or not word.startswith("-")]
    if "-1" in operands or words[1:] in (("-1",), ("-9",)):
        return _machine("ends", "every process")
    return []


def _killed_by_name(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "sugtP")
    if any(_LATHE.search(word) for word in given.operands):
        return [Danger("ends", "Lathe itself", "guard")]
    if any(word in (".", ".*", "") for word in given.operands) or (given.has("u") and not given.operands):
        return _machine("ends", "every process")
    return []


def _systemctl(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "HMt")
    verb, units = given.operands[:1], given.operands[1:]
    if verb and verb[0] in ("poweroff", "reboot", "halt", "kexec", "rescue", "emergency"):
        return _machine("stops", "the machine")
    if verb and verb[0] in ("stop", "disable", "mask", "kill"):
        return [Danger("turns off", unit, "guard") for unit in units if _WATCHERS.fullmatch(unit)]
    return []


def _crontab(words: tuple[str, ...], site: Site) -> list[Danger]:
    return _machine("deletes", "all timed jobs") if options(words, "u").has("r") else []


def _users(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    return _machine("deletes the account", given.operands[-1] if given.operands else "")


def _firewall(words: tuple[str, ...], site: Site) -> list[Danger]:
    flushed = {"-F", "--flush", "-X", "flush", "reset", "disable"} & set(words)
    return _machine("takes down", "the firewall") if flushed else []


def _enforcement(words: tuple[str, ...], site: Site) -> list[Danger]:
    off = words[1:2] in (("0",), ("Permissive",)) if words[0] == "setenforce" else bool({"-D", "-e"} & set(words))
    return [Danger("turns off", words[0], "guard")] if off or words[0] == "aa-teardown" else []


def _snapshots(words: tuple[str, ...], site: Site) -> list[Danger]:
    if words[0] == "nix-collect-garbage":
        return _machine("deletes", "old generations") if "-d" in words or "--delete-old" in words else []
    if words[0] == "timeshift":
        return _machine("deletes", "snapshots") if {"--delete", "--delete-all"} & set(words) else []
    if {"-n", "--dry-run"} & set(words):
        return []
    verbs = {
        "restic": ("forget", "prune"),
        "borg": ("delete", "prune"),
        "tmutil": ("delete", "deletelocalsnapshots"),
        "snapper": ("delete",),
    }
    return _machine("deletes", "backups") if set(verbs[words[0]]) & set(words[1:]) else []


def _lathe(words: tuple[str, ...], site: Site) -> list[Danger]:
    """Lathe started with less protection, or told to have less: what an agent must not do to its own guard."""
    text = " ".join(words[1:])
    if re.search(r"danger-full-access|(?:-a|--approve)[ =]never|\bconfig (?:set|unset|edit)\b", text):
        return [Danger("weakens", "Lathe's own guard", "guard")]
    return []


_READERS: dict[str, Callable[[tuple[str, ...], Site], list[Danger]]] = {
    **dict.fromkeys(("fdisk", "sfdisk", "parted"), _partition),
    "cryptsetup": _crypt,
    **dict.fromkeys(("zfs", "zpool", "btrfs"), _pools),
    **dict.fromkeys(("mdadm", "hdparm", "nvme"), _arrays),
    "kill": _kill,
    **dict.fromkeys(("pkill", "killall"), _killed_by_name),
    "systemctl": _systemctl,
    "crontab": _crontab,
    **dict.fromkeys(("userdel", "deluser", "groupdel", "delgroup"), _users),
    **dict.fromkeys(("iptables", "ip6tables", "nft", "ufw"), _firewall),
    **dict.fromkeys(("setenforce", "auditctl", "aa-teardown"), _enforcement),
    **dict.fromkeys(("restic", "borg", "tmutil", "snapper", "timeshift", "nix-collect-garbage"), _snapshots),
    "init": lambda words, site: _machine("stops", "the machine") if words[1:2] in (("0",), ("6",)) else [],
    "lathe": _lathe,
}
