"""Files and folders that go: `rm`, `find -delete`, `mv`, `dd`, `truncate`, `rsync --delete`, `chmod -R`."""

from __future__ import annotations

import os
from collections.abc import Iterable

from lathe.guard.danger import Danger, Reader, Site, options
from lathe.guard.shell_output import find_starts, found_by_find
from lathe.guard.shell_words import SOME, UNKNOWN
from lathe.guard.targets import absolute, is_pattern

_KINDS = "sd hd vd xvd nvme mmcblk disk mapper mem md dm- loop"
_DEVICES = (*(f"/dev/{kind}" for kind in _KINDS.split()), "/proc/sysrq-trigger")
_SYSTEM = ("/etc", "/boot", "/usr", "/bin", "/sbin", "/lib", "/var/lib")
_TOPS = frozenset({"/", "/bin", "/boot", "/etc", "/home", "/lib", "/opt", "/root", "/sbin", "/srv", "/usr", "/var"})


def read(words: tuple[str, ...], site: Site) -> list[Danger]:
    """Return the dangers of a command that works on files."""
    reader = _READERS.get(words[0])
    return reader(words, site) if reader is not None else []


def _each(act: str, paths: Iterable[str], site: Site) -> list[Danger]:
    """Return a danger for each path that is not scratch."""
    reaches = [(path, site.reach(path)) for path in paths]
    return [Danger(act, path, found) for path, found in reaches if found != "scratch"]


def _rm(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    recursive = given.has("r", "R", "recursive")
    many = recursive or site.run.given.text is None
    paths = [path for path in given.operands if many or path.strip("\"'") not in (UNKNOWN, SOME)]
    paths = [path for path in paths if many or site.reach(path) != "unknown"]
    found = _each("deletes" if not recursive else "deletes, with all below it,", paths, site)
    return [
        danger._replace(reach="repository") if recursive and site.is_root(danger.target) else danger for danger in found
    ]


def _plain(act: str, valued: str = "") -> Reader:
    return lambda words, site: _each(act, options(words, valued).operands, site)


def _find(words: tuple[str, ...], site: Site) -> list[Danger]:
    if "-delete" not in words:
        return []
    found = _each("deletes what is found as", found_by_find(words), site)
    if not _spares_git(words):
        found += [
            Danger("deletes what is found below", start, "repository")
            for start in find_starts(words)
            if site.is_root(start)
        ]
    return found


def _spares_git(words: tuple[str, ...]) -> bool:
    """Tell whether a `find` leaves the store of git alone, for it asks for a name or looks at empty folders only."""
    if {"-name", "-iname", "-empty"} & set(words):
        return True
    shallow = (
        "-maxdepth" in words and words[words.index("-maxdepth") + 1 :][:1] in (("0",), ("1",)) and "-type" in words
    )
    return shallow or any(".git" in word for word in words)


def _mv(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "tS")
    sources = given.operands if given.has("t", "target-directory") else given.operands[:-1]
    target = given.values.get("t") or given.values.get("target-directory") or (given.operands or ("",))[-1]
    if target == "/dev/null":
        return _each("moves to nowhere", sources, site)
    whole = [path for path in sources if is_pattern(path) or _is_top(path, site)]
    moved = [danger for danger in _each("moves away", whole, site) if danger.reach != "workspace"]
    return [] if given.has("n", "no-clobber") else moved + _replaced(sources, target, site)


def _replaced(sources: Iterable[str], target: str, site: Site) -> list[Danger]:
    """Return the files of the workspace that something moved or copied to `target` would replace."""
    whole = absolute(target, site.run.cwd, site.ground)
    if whole is None or site.reach(target) != "workspace":
        return []
    inside = [f"{target.rstrip('/')}/{path.rstrip('/').rpartition('/')[2]}" for path in sources]
    onto = inside if os.path.isdir(whole) else [target]  # noqa: PTH112 - a word, not a path of ours
    return [danger for danger in _emptied("replaces", onto, site) if not is_pattern(danger.target)]


def _cp(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "tS")
    operands = given.operands
    if operands[:1] and operands[0] in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"):
        return _emptied("overwrites", operands[1:], site)
    if given.has("n", "no-clobber") or len(operands) < 2:
        return []
    return _replaced(operands[:-1], operands[-1], site)


def _dd(words: tuple[str, ...], site: Site) -> list[Danger]:
    targets = [word[3:] for word in words if word.startswith("of=")]
    return _each("overwrites raw", targets, site)


def _truncate(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "sr")
    size = given.values.get("s") or given.values.get("size") or ""
    return [] if size.startswith("+") else _each("cuts off", given.operands, site)


def _rights(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    operands = given.operands if given.has("reference") else given.operands[1:]
    if words[0] == "setfacl":
        operands = given.operands[-1:]
    if not given.has("R", "recursive"):
        operands = tuple(path for path in operands if _is_top(path, site) or is_pattern(path))
    return _each("changes the rights of", operands, site)


def _rsync(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "eBTfM")
    if given.has("n", "dry-run") or not given.operands:
        return []
    found: list[Danger] = []
    if any(flag.startswith("delete") or flag == "del" for flag in given.flags):
        found += _copied_to("deletes what is not in the source from", given.operands[-1], site)
    if given.has("remove-source-files"):
        found += _each("moves away", [path for path in given.operands[:-1] if ":" not in path], site)
    return found


def _copied_to(act: str, target: str, site: Site) -> list[Danger]:
    if ":" in target.partition("/")[0]:
        return [Danger(act, target, "service")]
    return _each(act, [target.rstrip("/") + "/"], site)


def _rclone(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    verb, operands = given.operands[:1], given.operands[1:]
    if given.has("n", "dry-run") or not operands:
        return []
    if verb in (("sync",), ("delete",), ("purge",), ("deletefile",), ("move",), ("rmdirs",), ("cleanup",)):
        return _copied_to("deletes from", operands[-1], site)
    return []


def _archive(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "fC")
    taken = given.has("remove-files") if words[0] == "tar" else given.has("m", "move") or "-sdel" in words
    return _each("deletes after packing", given.operands[(words[0] != "tar") :], site) if taken else []


def _tee(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    return [] if given.has("a", "append") else _emptied("overwrites", given.operands, site)


def _rename(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    return [] if given.has("n", "no-act", "nono") else _each("renames", given.operands[1:], site)


def emptied(site: Site) -> list[Danger]:
    """Return the dangers of redirections that empty a file first."""
    return _emptied("overwrites", site.run.empties, site)


def _emptied(act: str, paths: Iterable[str], site: Site) -> list[Danger]:
    """Return what is lost where files are written anew, which is what is there already."""
    found = _each(act, paths, site)
    return [danger for danger in found if danger.reach != "unknown" and _matters(danger, site)]


def _matters(danger: Danger, site: Site) -> bool:
    whole = absolute(danger.target, site.run.cwd, site.ground) or ""
    if danger.reach == "workspace":
        return is_pattern(whole) or os.path.lexists(whole)
    if danger.reach in ("guard", "repository"):
        return True
    if whole.startswith(_DEVICES):
        return True
    hidden = whole.startswith(f"{site.ground.home}/.")
    return hidden or any(whole.startswith(f"{folder}/") for folder in _SYSTEM) or os.path.lexists(whole)


def _is_top(path: str, site: Site) -> bool:
    whole = absolute(path, site.run.cwd, site.ground)
    if whole is None:
        return False
    whole = whole.rstrip("/") or "/"
    return whole in _TOPS or whole == site.ground.home or whole in site.ground.roots


def unnamed(words: tuple[str, ...], site: Site) -> list[Danger]:
    """Return the danger of a program that only the shell will know, with arguments as `rm -rf /` has them."""
    if words[0] not in (UNKNOWN, SOME):
        return []
    given = options(words)
    if not given.has("r", "R", "recursive"):
        return []
    return [danger for danger in _each("may delete", given.operands, site) if danger.lasting]


_READERS = {
    "rm": _rm,
    "rimraf": lambda words, site: _rm((words[0], "-r", *words[1:]), site),
    "del-cli": lambda words, site: _rm((words[0], "-r", *words[1:]), site),
    "trash": _plain("deletes"),
    "unlink": _plain("deletes"),
    "srm": _plain("deletes for good"),
    "shred": _plain("overwrites", "ns"),
    "wipe": _plain("overwrites"),
    "scrub": _plain("overwrites", "pD"),
    "find": _find,
    "mv": _mv,
    "cp": _cp,
    "install": _cp,
    "dd": _dd,
    "truncate": _truncate,
    "chmod": _rights,
    "chown": _rights,
    "chgrp": _rights,
    "chattr": _rights,
    "setfacl": _rights,
    "rsync": _rsync,
    "rclone": _rclone,
    "tar": _archive,
    "zip": _archive,
    "7z": _archive,
    "tee": _tee,
    "sponge": _tee,
    "rename": _rename,
    "prename": _rename,
}
