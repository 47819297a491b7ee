"""What a policy lets a command see and write, as a list of paths; read by every tier."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from lathe.sandbox.paths import SEEING, WRITING, Rule, RuleKind, found, rules_of, strongest
from lathe.sandbox.policy import SandboxPolicy
from lathe.sandbox.survey import survey

# private: an empty folder of its own. hidden: there, but empty. kept: visible though a folder above is hidden
Kind: TypeAlias = Literal["private", "hidden", "write", "pinned", "kept", "protected"]
_ORDER: tuple[Kind, ...] = ("private", "hidden", "write", "pinned", "kept", "protected")
_PRIVATE = ("/tmp", "/var/tmp", "/run")
# programs and libraries of some distributions lie below /run
_KEPT = ("/run/current-system", "/run/opengl-driver", "/run/host")
_CREDENTIALS = (
    ".ssh",
    ".aws",
    ".azure",
    ".gnupg",
    ".netrc",
    ".docker",
    ".kube",
    ".password-store",
    ".pgpass",
    ".my.cnf",
    ".pypirc",
    ".npmrc",
    ".git-credentials",
    ".vault-token",
    ".terraform.d/credentials.tfrc.json",
    ".config/gh",
    ".config/gcloud",
    ".config/op",
    ".config/git/credentials",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".gem/credentials",
    ".m2/settings.xml",
    ".gradle/gradle.properties",
    ".local/share/keyrings",
    ".bash_history",
    ".zsh_history",
    ".local/share/fish/fish_history",
    ".python_history",
    ".node_repl_history",
    ".psql_history",
    ".mysql_history",
    ".sqlite_history",
    ".rediscli_history",
    ".lesshst",
    ".config/google-chrome",
    ".config/chromium",
    ".mozilla",
)


class Mount(NamedTuple):
    """One path and what becomes of it."""

    kind: Kind
    path: str


def plan(policy: SandboxPolicy, cwd: Path, hidden: Iterable[str], readable: Iterable[str]) -> list[Mount]:
    """Return the mounts of a policy, outer paths before inner ones; only paths that exist, links resolved.

    What is deeper wins, so a workspace below a hidden folder is seen, and a hidden file below a workspace is not. It
    looks through the writable roots, where the policy has rules for names: nothing for an event loop.
    """
    rules = rules_of(policy)
    given = _resolve(policy.writable_roots) if policy.mode == "workspace-write" else []
    decisions = {path: _decide(rules, path) for path in found(rules)}
    roots = list(dict.fromkeys((*given, *(path for path, (_, written) in decisions.items() if written == "write"))))
    mounts = {Mount("private", path) for path in _resolve(_PRIVATE) if path not in roots}
    mounts |= {Mount("hidden", path) for path in _resolve([*credentials(), *hidden]) if path not in roots}
    mounts |= {Mount("write", path) for path in roots}
    for root in roots:
        mounts |= set(_guard(root))
    names = survey(_resolve([*policy.writable_roots, str(cwd)]), policy.paths)
    mounts |= {Mount("hidden", path) for path in names.veiled}
    if roots:
        mounts |= {Mount("protected", path) for path in names.guarded if not os.path.islink(path)}  # noqa: PTH114
    seen = _lay(mounts, rules, decisions)
    roots = [mount.path for mount in mounts if mount.kind == "write"]
    covered = [m.path for m in mounts if m.kind in ("private", "hidden")]
    visible = [*readable, *seen, str(cwd), *_KEPT, *_own_files(), os.path.realpath("/etc/resolv.conf")]
    for path in _resolve(visible):
        if any(is_below(path, cover) for cover in covered) and not any(is_below(path, root) for root in roots):
            mounts.add(Mount("kept", path))
    return sorted(mounts, key=lambda m: (m.path.count("/") if m.path != "/" else 0, _ORDER.index(m.kind), m.path))


def credentials() -> list[str]:
    """Return where keys, histories and the like lie in the person's home, whether they are there or not."""
    home = Path.home()
    return [str(home / name) for name in _CREDENTIALS]


def _decide(rules: Sequence[Rule], path: str) -> tuple[RuleKind | None, RuleKind | None]:
    """Return what the rules that name this very path say of seeing it, and of writing it."""
    here = [rule for rule in rules if rule.holds_for(path)]
    seen, written = strongest(here, path, SEEING), strongest(here, path, WRITING)
    return seen.kind if seen else None, written.kind if written and not (seen and seen.kind == "hide") else None


def _lay(
    mounts: set[Mount], rules: Sequence[Rule], decisions: Mapping[str, tuple[RuleKind | None, RuleKind | None]]
) -> list[str]:
    """Lay on the mounts what the rules say of single paths; return those that are to be seen."""
    visible = []
    for path, (seen, written) in decisions.items():
        here = {mount.kind for mount in mounts if mount.path == path}
        drop: set[Kind] = set()
        if seen == "hide":
            drop = here - {"hidden"}
            mounts.add(Mount("hidden", path))
        elif seen is not None:
            drop = {"hidden"}
        if written == "write" and any(rule.kind == "write" and not rule.rest and rule.base == path for rule in rules):
            drop = drop | {"protected"}  # a pattern does not open what is protected by itself
        elif written in ("read", "protect"):
            drop = drop | {"write", "pinned"}
            above = [m.path for m in mounts if m.kind == "write" and m.path != path and is_below(path, m.path)]
            if above:
                mounts |= {Mount("protected", path), *_pins(path, max(above, key=len))}
            elif seen == "read":
                visible.append(path)
        mounts -= {Mount(kind, path) for kind in drop}
    # what lies below something protected must not be writable again for being in the way of a rename
    kept = {mount.path for mount in mounts if mount.kind == "pinned"}
    closed = [path for path in kept if (rule := strongest(rules, path, WRITING)) and rule.kind != "write"]
    mounts -= {Mount("pinned", path) for path in closed}
    return visible


def sockets(mounts: Sequence[Mount]) -> list[Mount]:
    """Return mounts that hide the local sockets somebody listens on, where these mounts would leave them to be seen.

    A read-only mount keeps nobody from connecting. What is bound later is not hidden.
    """
    try:
        lines = Path("/proc/net/unix").read_bytes().splitlines()[1:]
    except OSError:
        return []
    covered = [mount.path for mount in mounts if mount.kind in ("private", "hidden", "write")]
    paths = {os.fsdecode(line.split(None, 7)[7]) for line in lines if b" /" in line}
    seen = [path for path in sorted(paths) if not any(is_below(path, cover) for cover in covered)]
    return [Mount("hidden", path) for path in seen if Path(path).is_socket() and os.path.realpath(path) == path]


def _own_files() -> list[str]:
    """Return the folders that the exec server itself is run from, and Lathe: mend's commands are its own programs."""
    package = Path(__file__).parents[2]
    return [sys.base_prefix, sys.prefix, str(Path(os.path.realpath(sys.executable)).parent), str(package)]


def _pins(path: str, root: str) -> Iterator[Mount]:
    while (path := os.path.dirname(path)) != root and is_below(path, root):  # noqa: PTH120
        yield Mount("pinned", path)


def _resolve(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(os.path.realpath(path) for path in paths if os.path.exists(path)))  # noqa: PTH110


def is_below(path: str, folder: str) -> bool:
    """Return whether a path is a folder or lies in it; both are absolute, without links."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _guard(root: str) -> Iterator[Mount]:
    """Yield what keeps a writable root from running code outside the sandbox later.

    A mounted path cannot be renamed or removed, so each folder above a protected one is mounted onto itself: else
    `mv .git x; mkdir -p .git/hooks` would step around the protection.
    """
    settings = Path(root, ".lathe")
    if settings.is_dir() and not settings.is_symlink():
        yield Mount("protected", str(settings))
    git = Path(root, ".git")
    if git.is_symlink() or not git.exists():
        return
    if git.is_dir():
        yield from _guard_git(git)
        return
    yield Mount("protected", str(git))
    folders = linked_repository(git)
    if folders is not None:
        yield Mount("write", str(folders.shared))
        yield from _guard_git(folders.shared)


def _guard_git(git: Path) -> Iterator[Mount]:
    yield Mount("pinned", str(git))
    hooks = git / "hooks"
    if not hooks.exists():
        # git itself makes this folder; without it there would be nothing to protect, and a hook could be planted
        try:
            hooks.mkdir()
        except OSError:
            return
    for name in ("hooks", "config", "config.worktree", "info/attributes"):
        path = git / name
        if path.exists() and not path.is_symlink():
            if "/" in name:
                yield Mount("pinned", str(path.parent))
            yield Mount("protected", str(path))
    modules = git / "modules"
    if modules.is_dir() and not modules.is_symlink():
        yield Mount("pinned", str(modules))
        for module in modules.iterdir():
            if (module / "HEAD").is_file() and not module.is_symlink():
                yield from _guard_git(module)


class LinkedRepository(NamedTuple):
    """The folder of a repository, and that in it which only one of its linked worktrees uses."""

    shared: Path
    own: Path


def linked_repository(link: Path) -> LinkedRepository | None:
    """Return the repository that the file `.git` of a linked worktree names, if it says itself that this is so.

    The file in the workspace may have been written by a command, so it alone proves nothing.
    """
    try:
        own = Path(link.read_text().removeprefix("gitdir:").strip())
        own = Path(os.path.realpath(link.parent / own))
        back = (own / "gitdir").read_text().strip()
        shared = Path(os.path.realpath(own / (own / "commondir").read_text().strip()))
    except (OSError, ValueError):
        return None
    known = os.path.realpath(back) == str(link) and own.parent == shared / "worktrees"
    is_repository = known and (shared / "HEAD").is_file() and (shared / "objects").is_dir()
    return LinkedRepository(shared, own) if is_repository else None
