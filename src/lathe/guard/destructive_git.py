"""Work that version control throws away, and history that it rewrites."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from lathe.guard.danger import Danger, Options, Site, options
from lathe.guard.targets import Reach, absolute
from lathe.guard.wrappers import without_global_options
from lathe.sandbox.mounts import is_below


def read(words: tuple[str, ...], site: Site) -> list[Danger]:
    """Return the dangers of a version control command."""
    if words[0] in ("git-filter-repo", "bfg"):
        return [Danger("rewrites the history", "the repository", "repository")]
    if words[0] in ("hg", "svn"):
        return _others(words)
    if words[0] != "git":
        return []
    folder, rest = _subcommand(words)
    reader = _READERS.get(rest[0]) if rest else None
    if reader is None:
        return []
    where = site.reach(f"{folder}/x") if folder else site.reach("./x")
    found = reader(rest, site)
    if where not in ("workspace", "scratch"):
        return [one._replace(reach=where) if one.reach in ("workspace", "refs") else one for one in found]
    if any(one.reach == "refs" for one in found) and _is_linked(folder, site):
        return [one._replace(reach="repository") if one.reach == "refs" else one for one in found]
    return found


def _is_linked(folder: str, site: Site) -> bool:
    """Tell whether git's own files lie where no snapshot has them, as those of a linked worktree do."""
    at = absolute(folder or ".", site.run.cwd, site.ground)
    if at is None:
        return False
    top = next((one for one in (Path(at), *Path(at).parents) if os.path.lexists(one / ".git")), Path(at))
    try:
        named = (top / ".git").read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    except (OSError, ValueError):
        return False
    real = os.path.realpath(top / named)
    return not any(is_below(real, os.path.realpath(root)) for root in site.ground.roots)


def _subcommand(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the folder that `-C` names ("" for none) and the words from the subcommand on."""
    rest = len(without_global_options(words)) - 1
    skipped = words[1 : len(words) - rest]
    named = [after for option, after in pairwise(skipped) if option in ("-C", "--work-tree")]
    return named[-1] if named else "", words[len(words) - rest :]


def _discard(act: str = "throws away the work that is not committed in") -> list[Danger]:
    return [Danger(act, ".", "workspace", brings_back=True)]


def _reset(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    return _discard() if given.has("hard", "merge", "keep") else []


def _clean(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "e")
    if given.has("n", "dry-run") or not given.has("f", "force", "i", "interactive"):
        return []
    return [Danger("deletes the files that git does not know in", ".", "workspace")]


def _checkout(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "bB")
    if given.has("f", "force", "B"):
        return _discard()
    if "--" in words:
        paths = words[words.index("--") + 1 :]
    else:
        paths = tuple(path for path in given.operands if path in (".", "*") or _is_file(path, site))
        paths = paths or given.operands[1:] * (not given.has("b", "orphan", "t", "track", "detach", "d"))
    return _from_git(paths, site)


def _from_git(paths: tuple[str, ...], site: Site) -> list[Danger]:
    return [Danger("throws away the changes of", path, _on_file(path, site), brings_back=True) for path in paths]


def _restore(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "s")
    if given.has("S", "staged") and not given.has("W", "worktree"):
        return []
    return _from_git(given.operands, site)


def _switch(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "cC")
    return _discard() if given.has("f", "force", "discard-changes") else []


def _stash(words: tuple[str, ...], site: Site) -> list[Danger]:
    if words[1:2] in (("drop",), ("clear",)):
        return [Danger("throws away", "stashed changes", "refs")]
    puts_away = words[1:2] in ((), ("push",), ("save",)) or words[1].startswith("-")
    return _discard("puts away the work that is not committed in") if puts_away else []


def _branch(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "u")
    if given.has("D") or (given.has("d", "delete") and given.has("f", "force")):
        return [Danger("deletes the branch", name, "refs") for name in given.operands]
    if given.has("d", "delete") and not given.has("r", "remotes"):
        return [Danger("deletes the merged branch", name, "refs") for name in given.operands]
    if given.has("M", "C") or given.has("f", "force"):
        return [Danger("moves the branch", name, "refs") for name in given.operands]
    return []


def _tag(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "mFu")
    if given.has("d", "delete", "f", "force"):
        return [Danger("deletes or moves the tag", name, "refs") for name in given.operands]
    return []


def _push(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "o")
    if given.has("n", "dry-run"):
        return []
    if given.has("f", "force", "mirror", "delete", "d", "prune") or any(
        flag.startswith(("force-with", "force-if")) for flag in given.flags
    ):
        return [
            Danger(
                "rewrites or deletes what others may have fetched of",
                " ".join(given.operands) or "the remote",
                "service",
            )
        ]
    refs = [ref for ref in given.operands[1:] if ref.startswith(("+", ":"))]
    return [Danger("rewrites or deletes what others may have fetched of", ref, "service") for ref in refs]


def _history(words: tuple[str, ...], site: Site) -> list[Danger]:
    return [Danger("rewrites the history", "the repository", "repository")]


def _reflog(words: tuple[str, ...], site: Site) -> list[Danger]:
    if words[1:2] in (("expire",), ("delete",)) and "--dry-run" not in words and "-n" not in words:
        return [Danger("forgets", "where branches have been", "repository")]
    return []


def _gc(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    now = given.values.get("prune", given.values.get("expire", "")) in ("now", "all", "0", "1.second.ago", "all.time")
    if (words[0] == "prune" and not given.has("n", "dry-run") and (now or not given.values)) or (
        now and words[0] == "gc"
    ):
        return [Danger("deletes for good", "commits that no branch holds", "repository")]
    return []


def _refs(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words, "m")
    return [Danger("deletes the ref", name, "refs") for name in given.operands[:1]] if given.has("d", "delete") else []


def _worktree(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    if given.operands[:1] != ("remove",) or not given.has("f", "force"):
        return []
    return [Danger("deletes the worktree", path, site.reach(path)) for path in given.operands[1:]]


def _submodule(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    if given.operands[:1] == ("deinit",) and given.has("f", "force"):
        return _discard("throws away the work in submodules of")
    return []


def _remove(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    if given.has("cached", "n", "dry-run"):
        return []
    return [Danger("deletes", path, _on_file(path, site)) for path in given.operands]


def _plumbing(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    if words[0] == "read-tree" and given.has("u") and given.has("reset"):
        return _discard()
    if words[0] == "checkout-index" and given.has("f", "force"):
        return _discard()
    return []


def _aborting(words: tuple[str, ...], site: Site) -> list[Danger]:
    given = options(words)
    return _discard("throws away what is in progress in") if given.has("abort", "quit") else []


def _remote(words: tuple[str, ...], site: Site) -> list[Danger]:
    if words[1:2] in (("remove",), ("rm",)):
        return [Danger("forgets the remote", " ".join(words[2:]), "refs")]
    return []


def _lfs(words: tuple[str, ...], site: Site) -> list[Danger]:
    return (
        [Danger("deletes", "large files that are not used now", "repository")]
        if words[1:2] == ("prune",) and "--dry-run" not in words
        else []
    )


def _is_file(path: str, site: Site) -> bool:
    """Tell whether a word of `git checkout` names files, and no branch."""
    if "*" in path:
        return True
    whole = absolute(path, site.run.cwd, site.ground)
    return bool(re.search(r"[./]", path)) and whole is not None and os.path.lexists(whole)


def _on_file(path: str, site: Site) -> Reach:
    found = site.reach(path)
    # Git itself refuses paths outside its repository; an unknown one is one of its files.
    return "workspace" if found in ("unknown", "scratch") else found


def _others(words: tuple[str, ...]) -> list[Danger]:
    given: Options = options(words[1:])
    verb = words[1:2]
    if words[0] == "hg":
        if verb in (("strip",), ("purge",)):
            return [Danger("deletes", "changes", "repository" if verb == ("strip",) else "workspace")]
        if verb in (("update",), ("up",), ("revert",)) and given.has("C", "clean", "a", "all"):
            return _discard()
    if words[0] == "svn" and verb == ("revert",) and given.has("R", "recursive"):
        return _discard()
    return []


_READERS: dict[str, Callable[[tuple[str, ...], Site], list[Danger]]] = {
    "reset": _reset,
    "clean": _clean,
    "checkout": _checkout,
    "restore": _restore,
    "switch": _switch,
    "stash": _stash,
    "branch": _branch,
    "tag": _tag,
    "push": _push,
    "filter-branch": _history,
    "filter-repo": _history,
    "reflog": _reflog,
    "gc": _gc,
    "prune": _gc,
    "update-ref": _refs,
    "symbolic-ref": _refs,
    "worktree": _worktree,
    "submodule": _submodule,
    "rm": _remove,
    "read-tree": _plumbing,
    "checkout-index": _plumbing,
    "merge": _aborting,
    "rebase": _aborting,
    "am": _aborting,
    "cherry-pick": _aborting,
    "revert": _aborting,
    "remote": _remote,
    "lfs": _lfs,
}
