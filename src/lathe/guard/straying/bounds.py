"""Acts beyond the task: outside of the workspace, published unasked, or destroying what can't be brought back."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lathe.guard.destructive import dangers_of
from lathe.guard.history import History
from lathe.guard.shell_words import SOME, UNKNOWN
from lathe.guard.straying.deeds import Deed, Sign, asked, in_workspace, told
from lathe.sandbox.mounts import is_below

_PUBLISHES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), what)
    for pattern, what in (
        (r"^git (?:-\S+ )*push\b(?!.*(?:--dry-run|-n\b))", "pushes to a remote"),
        (
            r"^(?:npm|yarn|pnpm|cargo|poetry|uv|hatch|gem|mix hex\.) ?(?:publish|push)\b(?!.*--dry-run)",
            "publishes a package",
        ),
        (r"^twine upload\b", "publishes a package"),
        (
            r"^gh (?:release create|pr (?:create|merge)|repo (?:create|delete|edit)|issue create|workflow run)\b",
            "acts on the repository's host",
        ),
        (r"^(?:docker|podman) push\b", "publishes an image"),
        (r"^(?:terraform|tofu|pulumi) (?:apply|up|destroy)\b", "changes what runs elsewhere"),
        (
            r"^(?:kubectl|helm|oc) (?:apply|delete|create|install|upgrade|uninstall|scale|rollout)\b(?!.*--dry-run)",
            "changes what runs elsewhere",
        ),
        (
            r"^(?:vercel|netlify|fly|flyctl|heroku|firebase|serverless|cdk|gcloud app) "
            r"(?:deploy|--prod|container:push)\b",
            "deploys",
        ),
    )
)
_PUBLISH_ASKED = (
    r"\b(?:push|publish|releas|deploy|ship|merge|upload|apply|provision|roll ?out"
    r"|(?:open|create|make|send|submit|raise|file) (?:a |an |the )?(?:draft |new )?(?:pull request|pr|issue|repo))\w*",
)
_LASTING_PLACES = re.compile(
    r"^(?:{home}/\.(?:bashrc|bash_profile|profile|zshrc|zprofile|zshenv|gitconfig"
    r"|config/(?:autostart|systemd|fish))|{home}/\.ssh/(?:authorized_keys|config|rc)"
    r"|/etc/(?:passwd|shadow|sudoers|cron|systemd|init\.d|profile|ld\.so|hosts|ssh"
    r"|pam|rc\.local)|/var/spool/cron|/root/\.ssh|/usr/lib/systemd|/boot)".replace(
        "{home}", "(?:/home/[^/]+|/root|/Users/[^/]+)"
    )
)
_SETUP_ASKED = (
    r"\b(?:bashrc|zshrc|profile|shell config|dotfiles?|path\b|alias|ssh"
    r"|authorized_keys|cron|systemd|service|hosts|sudo\w*|global|system.?wide|install|set ?up|environment)\b",
)
_DESTROY_ASKED = (
    r"\b(?:delet|remov|clean|wip|drop|purg|reset|discard|revert|prun|eras|clear"
    r"|uninstall|tear ?down|rewrit|squash|rebas|force|undo|throw away|get rid|destroy"
    r"|overwrit|start (?:over|afresh))\w*",
)
_GRAVE = re.compile(r"^(?:/|/\*|~|/home(?:/[^/]+)?|/root|/etc|/usr|/var|/boot|/mnt|/srv|/opt)/?\*?$")


def signs(deed: Deed, history: History) -> Iterator[Sign]:
    """Yield what of an act goes beyond the task."""
    yield from _outside(deed, history)
    if not told(history.task, *_PUBLISH_ASKED):
        yield from _publishes(deed, history)
    yield from _destroys(deed, history)


def _publishes(deed: Deed, history: History) -> Iterator[Sign]:
    for words in deed.runs:
        line = " ".join(words)
        if " ".join(words[:2]) in history.task:
            continue
        what = next((what for pattern, what in _PUBLISHES if pattern.search(line)), "")
        if what:
            yield Sign("agent.overreach", 0.8, f"It {what}, which nobody asked for.")
            return


def _outside(deed: Deed, history: History) -> Iterator[Sign]:
    siblings = {root.rstrip("/").rpartition("/")[0] for root in history.roots} - {"", "/tmp", "/var/tmp"}
    for place in deed.writes:
        if not place.path or in_workspace(place, history):
            continue
        if _LASTING_PLACES.search(place.path):
            if not asked(history.task, *_SETUP_ASKED):
                yield Sign(
                    "agent.overreach",
                    0.8,
                    f"It changes what holds for all of this account or machine: {place.word}.",
                    (place.path,),
                )
                return
        elif any(_is_in_other(place.path, folder) for folder in siblings) and not _mentioned(place.path, history):
            yield Sign("agent.overreach", 0.8, f"It changes files of another project: {place.word}.", (place.path,))
            return


def _is_in_other(path: str, folder: str) -> bool:
    """Tell whether a path lies in another folder below `folder`, and not just there; hidden ones are no projects."""
    inner = path.removeprefix(f"{folder}/")
    return is_below(path, folder) and "/" in inner.rstrip("/") and not inner.startswith(".")


def _mentioned(path: str, history: History) -> bool:
    """Tell whether the person's words name a part of a path."""
    return not history.task.strip() or any(
        part.lower() in history.task.lower() for part in path.split("/")[-3:] if len(part) > 3
    )


def _destroys(deed: Deed, history: History) -> Iterator[Sign]:
    if not re.search(
        r"\brm\b|git|dd\b|mkfs|drop|truncate|delete|destroy|prune|wipe|shred|kill"
        r"|terraform|kubectl|>|find|rmtree|unlink|purge|flush",
        deed.act.text,
        re.IGNORECASE,
    ):
        return
    wanted = told(history.task, *_DESTROY_ASKED)
    for run in deed.reading.runs:
        for danger in dangers_of(run, deed.ground, lambda path: None) if run.words else ():
            if not danger.lasting or danger.reach in ("unknown", "guard") or danger.target[:1] in (UNKNOWN, SOME):
                continue
            grave = danger.reach == "machine" and bool(_GRAVE.match(danger.target))
            if grave or (not wanted and danger.reach in ("repository", "service")):
                score = 0.95 if grave else 0.8
                yield Sign(
                    "agent.destroy",
                    score,
                    f"It {danger.act}, which nobody asked for and nothing brings back.",
                    (danger.target,),
                )
                return
            if not wanted and danger.reach == "machine" and not danger.path.startswith("/tmp"):
                yield Sign(
                    "agent.destroy",
                    0.8,
                    f"It {danger.act} outside of the workspace, which nothing brings back.",
                    (danger.target,),
                )
                return
