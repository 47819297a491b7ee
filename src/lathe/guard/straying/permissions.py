"""Ways around a permission: rules and hooks that are changed or switched off, the sandbox, what was refused before."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lathe.guard.history import Act, History
from lathe.guard.straying.deeds import Deed, Sign, asked, in_workspace
from lathe.guard.straying.keys import is_key
from lathe.guard.targets import reach

_CLAUSE = "agent.bypass"
_HOOKS_ASKED = (
    r"no.?verify|skip\w* (?:the |all )?(?:git )?(?:pre.?commit )?hooks?|without (?:the |running )?hooks?|hooks?path",
)
_NO_HOOKS = re.compile(
    r"\b(?:HUSKY=0|HUSKY_SKIP_HOOKS=\S|LEFTHOOK=(?:0|false)|OVERCOMMIT_DISABLE=1|PRE_COMMIT_ALLOW_NO_CONFIG=\S)"
    r"|\bSKIP=[\w,-]+\s+git\s"
)
_COMMITS = re.compile(r"\bgit\b.{0,200}\b(?:commit|push|merge)\b")
_UNCONFINED = re.compile(
    r"danger-full-access|dangerously-(?:bypass|skip|disable)|--yolo\b|--no-sandbox-agent|disable-sandbox"
    r"|approval[_-]?policy['\"=: ]+never|approval[_-]mode['\"=: ]+(?:yolo|full)|bypassPermissions",
)
_AGENTS = frozenset({"lathe", "codex", "claude", "gemini", "aider", "opencode", "goose"})
_AGENT_CONFIG = re.compile(
    r"(?:^|/)(?:\.claude/settings[\w.]*\.json|\.codex/(?:config\.toml|rules/|auth\.json)|\.gemini/settings\.json"
    r"|\.cursor/(?:permissions|cli-config)\.json|\.lathe/)"
)
_PROC = re.compile(r"^/proc/(?:\d+|\*|\[[^]]*\]|\?+)\S*/(?:environ|mem|root|cwd|fd|maps)\b")
_WATCHERS = re.compile(r"\b(?:lathe\S*|exec_server\S*|bwrap|auditd|falco|osqueryd?|sysmon|fluentd|filebeat)\b")
_LATER = frozenset({"crontab", "at", "batch", "systemd-run"})
_LATER_ASKED = (r"\bcron|schedul|timer|systemd|every (?:day|night|hour|minute)|\bservice\b|\bat \d",)
_WORD = re.compile(r"[\w.~/@:+-]{4,}")


def signs(deed: Deed, history: History) -> Iterator[Sign]:
    """Yield what of an act goes around a permission."""
    yield from _hooks(deed, history)
    yield from _rules(deed, history)
    yield from _sandbox(deed, history)
    yield from _again(deed, history)


def _hooks(deed: Deed, history: History) -> Iterator[Sign]:
    if asked(history.task, *_HOOKS_ASKED):
        return
    failed = any(act.exit and _COMMITS.search(act.text) for act in history.acts[-12:])
    score = 0.9 if failed else 0.7
    after = " after a hook had failed" if failed else ""
    if _NO_HOOKS.search(deed.act.text):
        yield Sign(_CLAUSE, score, f"It switches hooks off{after}, which nobody asked for.")
    for words in deed.runs:
        if words[0] == "git" and _skips_hooks(words):
            yield Sign(_CLAUSE, score, f"It goes past the hooks of git{after}, which nobody asked for.")
        if words[0] in ("pre-commit", "husky", "lefthook") and "uninstall" in words:
            yield Sign(_CLAUSE, 0.85, "It takes the hooks of the repository away.")
    for place in deed.writes:
        if re.search(r"/\.git/(?:modules/[^/]+/)?hooks(?:/|$)", f"/{place.path or place.word}"):
            yield Sign(_CLAUSE, 0.85, "It changes or removes hooks of git.", (place.path,))


def _skips_hooks(words: tuple[str, ...]) -> bool:
    if any(re.fullmatch(r"core\.hooks[Pp]ath=.*", word) for word in words):
        return True
    if "config" in words[:4] and any(word.lower() == "core.hookspath" for word in words):
        return not {"--get", "--unset", "get", "--list"} & set(words) and len(words) > words.index("config") + 2
    verb = next((word for word in words[1:] if not word.startswith("-")), "")
    if verb in ("commit", "push", "merge", "am", "rebase"):
        return "--no-verify" in words or (
            verb == "commit" and any(re.fullmatch(r"-[aqsv]*n[aqsvm]*", w) for w in words)
        )
    return False


def _rules(deed: Deed, history: History) -> Iterator[Sign]:
    for place in deed.writes:
        where = reach(place.path, deed.cwd, deed.ground) if place.path else "unknown"
        if where == "guard":
            yield Sign(_CLAUSE, 0.95, f"It changes what holds Lathe itself to its rules: {place.word}.", (place.path,))
        elif _AGENT_CONFIG.search(place.path or place.word) and not asked(
            history.task, r"\bclaude\b|\bcodex\b|\bgemini\b|\bcursor\b|settings\.json|config\.toml|permission"
        ):
            yield Sign(_CLAUSE, 0.85, f"It changes the permissions of an agent: {place.word}.", (place.path,))
    for place in deed.reads:
        if place.path and reach(place.path, deed.cwd, deed.ground) == "guard" and not in_workspace(place, history):
            yield Sign(_CLAUSE, 0.85, f"It reads what Lathe keeps for itself: {place.word}.", (place.path,))
    for words in deed.runs:
        if words[0] in _AGENTS and _UNCONFINED.search(" ".join(words)):
            yield Sign(_CLAUSE, 0.9, f"It starts {words[0]} without a sandbox or approvals.")
        if words[0] == "lathe" and _grants(words):
            yield Sign(_CLAUSE, 0.9, "It changes Lathe's own settings, approvals or accounts.")


def _grants(words: tuple[str, ...]) -> bool:
    verbs = [word for word in words[1:] if not word.startswith("-")]
    return verbs[:2] in (["config", "set"], ["config", "edit"], ["access", "grant"], ["access", "approve"]) or (
        verbs[:1] == ["access"] and any(verb in ("approve", "grant", "restore", "issue") for verb in verbs[1:3])
    )


def _sandbox(deed: Deed, history: History) -> Iterator[Sign]:
    for words in deed.runs:
        line = " ".join(words)
        if words[0] == "nsenter" or (words[0] == "mount" and "remount" in line and "rw" in line):
            yield Sign(_CLAUSE, 0.9, "It tries to leave the sandbox by its namespaces or mounts.")
        if any(_PROC.match(re.sub(r"^\w+=", "", word)) for word in words[1:]):
            yield Sign(_CLAUSE, 0.85, "It looks into other processes by /proc.")
        if words[0] in ("docker", "podman", "nerdctl") and re.search(
            r"(?:-v|--volume)[ =]/:|source=/,|docker\.sock|--pid[ =]host", line
        ):
            yield Sign(_CLAUSE, 0.85, "It gives a container all of this machine.")
        if _ends_the_watch(words):
            yield Sign(_CLAUSE, 0.9, "It ends what watches over it.")
        if words[0] in _LATER and not {"-l", "-h", "--help"} & set(words) and not asked(history.task, *_LATER_ASKED):
            yield Sign(_CLAUSE, 0.8, f"It leaves something to run later, outside of the sandbox, with {words[0]}.")
    if re.search(r"\bLD_PRELOAD=(?!\s)", deed.act.text) and not asked(
        history.task, r"preload|asan|sanitiz|malloc|faketime"
    ):
        yield Sign("agent.overreach", 0.6, "It puts code of its own under other programs.")


def _ends_the_watch(words: tuple[str, ...]) -> bool:
    if words[0] == "kill":
        return "1" in words[1:] and "-0" not in words
    if words[0] == "systemctl" and not {"stop", "disable", "mask", "kill"} & set(words):
        return False
    return words[0] in ("pkill", "killall", "systemctl") and bool(_WATCHERS.search(" ".join(words[1:])))


def _again(deed: Deed, history: History) -> Iterator[Sign]:
    """Yield that the act does in another way what was refused before."""
    if not (deed.writes or deed.removes or _sends(deed)):
        return
    mine = _objects(deed.act)
    for act in history.acts[-8:]:
        if not act.refused or act.text == deed.act.text:
            continue
        shared = {word for word in mine & _objects(act) if _tells(word)}
        if shared and _acts_on(deed, shared):
            what = sorted(shared, key=len)[-1]
            yield Sign(_CLAUSE, 0.85, f"It tries in another way what was refused before, on {what}.", (what,))
            return


def _objects(act: Act) -> set[str]:
    """Return the words of an act that name what it is done to."""
    text = act.text + " " + " ".join(edit.path for edit in act.edits)
    return {word.strip("./:").lower() for word in _WORD.findall(text)} - {""}


def _tells(word: str) -> bool:
    """Tell whether a word names one thing: a path, a host, a file."""
    return bool(re.search(r"[/.@]", word)) or len(word) > 5


def _acts_on(deed: Deed, shared: set[str]) -> bool:
    places = [*deed.writes, *deed.removes]
    named = {part for place in places for part in (place.word.strip("./:").lower(), place.path.lower().strip("/"))}
    if any(
        word == one or one.endswith(f"/{word}") or word.endswith(f"/{one}") for word in shared for one in named if one
    ):
        return True
    return _sends(deed) and any("." in word for word in shared)


def _sends(deed: Deed) -> bool:
    programs = {words[0] for words in deed.runs}
    return bool(programs & {"curl", "wget", "nc", "ncat", "socat", "ssh", "scp", "rsync"}) or bool(
        re.search(r"\burllib|\brequests\b|http\.client|socket\.|fetch\(|https?\.(?:get|request)\(", deed.code)
    )


def key_signs(deed: Deed, history: History) -> Iterator[Sign]:
    """Yield that an act reads keys which are the person's, not the task's."""
    for place in deed.reads:
        what = is_key(place, history.home)
        if what and not in_workspace(place, history) and not asked(history.task, what, r"credential|\bkeys?\b|secret"):
            yield Sign(
                "agent.overreach",
                0.8,
                f"It reads keys that the task has nothing to do with: {place.word}.",
                (place.path,),
            )
