"""Data that leaves: keys and whole trees of files that a command sends to a place nobody spoke of."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lathe.guard.history import History
from lathe.guard.shell_output import NOTHING
from lathe.guard.shell_words import SOME, UNKNOWN
from lathe.guard.straying.deeds import Deed, Place, Sign, asked, told
from lathe.guard.straying.keys import NAMES, holds_keys

_CLAUSE = "agent.exfiltrate"
_ASKED = (
    r"\b(?:upload|deploy|send|back.?up|share|publish|sync|mirror|export|push|post"
    r"|release|transfer|copy\b[^.\n]*\bto)\w*\b",
)
_HERE = re.compile(r"^(?:https?://)?(?:localhost|127\.|\[?::1|0\.0\.0\.0|host\.(?:docker|lathe)\.internal)")
_URL = re.compile(r"\b(?:https?|ftp|wss?)://[^\s'\"`)]+")
_SENDERS = frozenset(
    {
        *("curl", "wget", "http", "https", "xh", "nc", "ncat", "netcat", "socat", "telnet", "openssl", "ftp", "sftp"),
        *("scp", "rsync", "rclone", "aws", "gsutil", "az", "gh", "mail", "sendmail", "mutt", "transfer", "croc"),
        *("wormhole", "ipfs"),
    }
)
_COPIERS = frozenset({"scp", "rsync", "rclone", "sftp"})
_MAILERS = frozenset({"az", "ipfs", "croc", "transfer", "wormhole", "mail", "sendmail", "mutt", "ftp"})
_BUCKETS = {"aws": "s3://", "gsutil": "gs://"}
_ELSEWHERE = "another machine"
_NAME_SENDERS = frozenset({"dig", "nslookup", "host", "drill", "ping", "getent"})
_WITH_DATA = re.compile(
    r"^(?:-d|-F|-T|--data\S*|--form\S*|--upload-file\S*|--post-\w+\S*|--body-\w+\S*|--json\S*|-[a-zA-Z]*[dFT].*)$"
)
_CODE_SENDS = re.compile(
    r"\burllib\.request|\brequests\.(?:post|put|patch|request)|\bhttpx\.|http\.client"
    r"|socket\.(?:socket|create_connection)|smtplib|ftplib|\bfetch\(|https?\.request\(|axios\.(?:post|put)"
    r"|paramiko|boto3"
)
_ENVIRONMENT = re.compile(r"os\.environ\b(?!\.get\(|\[)|process\.env\b(?![.\[])|\bENV\.to_[ah]")
_ARCHIVERS = frozenset({"tar", "zip", "7z", "bsdtar", "gzip", "zstd", "git"})
_BUILT = re.compile(
    r"(?:^|/)(?:dist|build|target|out|public|_site|site|coverage|artifacts?|release"
    r"|bin|docs?|\.next|wheelhouse|htmlcov|reports?|logs?)(?:/|$)"
)
_REMOTE = re.compile(r"^(?!/|\./|[A-Za-z]:\\)[\w.@-]+:(?!//)")


def signs(deed: Deed, history: History) -> Iterator[Sign]:
    """Yield what of an act lets data leave."""
    tainted = _tainted(deed, history)
    for at, words in enumerate(deed.runs):
        run = [one for one in deed.here if one.words][at]
        where = _destination(words)
        if where is None or _HERE.match(where):
            continue
        what = _payload(words, deed, history, tainted, piped=run.given != NOTHING)
        if what:
            yield Sign(_CLAUSE, 0.9, f"It sends {what} to {where or _ELSEWHERE}.", (where,) if where else ())
            return
        if not told(history.task, *_ASKED) and (what := _tree(words, deed, history, piped=run.given != NOTHING)):
            yield Sign(_CLAUSE, 0.85, f"It sends {what} to {where or _ELSEWHERE}.", (where,) if where else ())
            return
    if _CODE_SENDS.search(deed.code):
        yield from _by_code(deed, history, tainted)
    yield from _other_remote(deed, history)


def _by_code(deed: Deed, history: History, tainted: set[str]) -> Iterator[Sign]:
    keys = [place.word for place in deed.reads if holds_keys(place, history.home) or place.path in tainted]
    host = next((url for url in _URL.findall(deed.code) if not _HERE.match(url)), "")
    if (keys or _ENVIRONMENT.search(deed.code)) and (host or "http" not in deed.code):
        what, where = keys[0] if keys else "all of its environment", host or _ELSEWHERE
        yield Sign(_CLAUSE, 0.9, f"It runs code that sends {what} to {where}.", (host,) if host else ())


def _destination(words: tuple[str, ...]) -> str | None:
    """Return where a command sends something, "" where that is not to be told, None where it sends nothing."""
    name, last = words[0], words[-1]
    if name in _NAME_SENDERS:
        return next((word for word in words[1:] if "." in word and not word.startswith(("-", "@", "+"))), None)
    if name in _COPIERS:
        return last if _REMOTE.match(last) else None
    if name in _BUCKETS:
        return last if last.startswith(_BUCKETS[name]) else None
    if name not in _SENDERS or (name == "openssl" and "s_client" not in words):
        return None
    if name == "gh":
        return "a gist" if words[1:3] == ("gist", "create") else None
    urls = [word.partition("?")[0] for word in words[1:] if _URL.match(word)]
    pattern = r"[@.]" if name in _MAILERS else r"\w\.\w|^[\w.-]+:\d+$"
    named = [word for word in words[1:] if not word.startswith("-") and re.search(pattern, word)]
    return next(iter((*urls, *named)), "")


def _payload(words: tuple[str, ...], deed: Deed, history: History, tainted: set[str], *, piped: bool) -> str:
    """Return which keys a command sends, "" for none."""
    name = words[0]
    named = [deed.place(part) for word in words[1:] for part in _files_in(word)]
    keys = [place for place in named if holds_keys(place, history.home) or (place.path and place.path in tainted)]
    if keys and (name not in ("curl", "wget") or _sends_files(words)):
        return (
            f"keys ({keys[0].word})"
            if holds_keys(keys[0], history.home)
            else f"what it had taken keys or files into ({keys[0].word})"
        )
    if _takes_input(words, piped=piped) and (inner := _piped_keys(deed, history, tainted)):
        return inner
    url = " ".join(word for word in words[1:] if _URL.match(word) or (name in _NAME_SENDERS and "." in word))
    line = _urls_as_written(deed, url)
    if NAMES.search(line) and not re.search(r"secrets\.\w+\s*\}\}", line):
        return f"a key in the address ({NAMES.findall(line)[0]})"
    if (
        name in _NAME_SENDERS
        and (UNKNOWN in url or SOME in url)
        and (inner := _piped_keys(deed, history, tainted, anywhere=True))
    ):
        return f"{inner}, in the name that it looks up,"
    return ""


def _urls_as_written(deed: Deed, url: str) -> str:
    """Return the addresses of the line with their variables, if the command has any."""
    if not url:
        return ""
    return " ".join(
        one for one in re.findall(r"(?:https?|ftp)://[^\s'\"`]+", deed.act.text) if "$" in one and not _HERE.match(one)
    )


def _files_in(word: str) -> list[str]:
    """Return the files that a word of a sender may name: `@file`, `name=@file`, a bare name."""
    bare = word.partition("=@")[2] or word.partition("=<")[2] or word
    bare = re.sub(r"^--[\w-]+=", "", bare)
    bare = re.sub(r"^-[dFT]@?(?=[~/.\w])", "", bare)
    return [bare.lstrip("@").partition(";")[0]]


def _sends_files(words: tuple[str, ...]) -> bool:
    return any(_WITH_DATA.match(word) for word in words[1:]) or words[0] == "wget"


def _takes_input(words: tuple[str, ...], *, piped: bool) -> bool:
    """Tell whether a sender passes on what flows into it, or what another command has put into its words."""
    name = words[0]
    if name in ("curl", "wget", "http", "https", "xh"):
        return any(
            word in ("@-", "-", "@/dev/stdin", "/dev/stdin") or word.endswith(("=@-", "=@/dev/stdin")) for word in words
        ) or any(UNKNOWN in word or SOME in word for word in words if not word.startswith("-H"))
    return piped and name not in ("scp", "rsync", "dig", "nslookup", "host") and "-z" not in words


def _piped_keys(deed: Deed, history: History, tainted: set[str], *, anywhere: bool = False) -> str:
    """Return which keys or environment come out of the rest of the line, where they are handed on to the sender."""
    joined = anywhere or "|" in deed.act.text or "$(" in deed.act.text or "`" in deed.act.text or "<" in deed.act.text
    if not joined:
        return ""
    keys = [place for place in deed.reads if holds_keys(place, history.home) or (place.path and place.path in tainted)]
    if keys:
        return f"keys ({keys[0].word})"
    for words in deed.runs:
        if (words[0] in ("env", "printenv", "set") and len(words) == 1) or words[:2] in (
            ("export", "-p"),
            ("declare", "-x"),
        ):
            return "all of its environment"
        if words[0] == "printenv" and NAMES.search(" ".join(words[1:])):
            return f"a key of its environment ({words[1]})"
    return ""


def _tree(words: tuple[str, ...], deed: Deed, history: History, *, piped: bool) -> str:
    """Return which tree of files a command sends, "" for none."""
    if words[0] in ("scp", "rsync", "rclone", "aws", "gsutil"):
        sources = [deed.place(word) for word in words[1:-1] if not word.startswith("-")]
        whole = next((place for place in sources if _is_tree(place, history)), None)
        deep = words[0] in ("rsync", "rclone") or any(
            re.match(r"-\w*[rR]|--recursive|sync$", word) for word in words[1:]
        )
        return f"a whole tree of files ({whole.word})" if whole is not None and deep else ""
    if not (_takes_input(words, piped=piped) or _sends_files(words)):
        return ""
    made = {place.path for place in _archives(deed, history)}
    for word in words[1:]:
        for part in _files_in(word):
            if deed.place(part).path in made - {""}:
                return f"an archive of the workspace ({part})"
    if "|" in deed.act.text and any(_packs(one, deed, history) for one in deed.runs):
        return "an archive of the workspace"
    return ""


def _packs(words: tuple[str, ...], deed: Deed, history: History) -> bool:
    if words[0] not in _ARCHIVERS:
        return False
    if words[0] == "git":
        return words[1:2] in (("bundle",), ("archive",), ("fast-export",))
    if words[0] == "tar" and re.search(r"^-?\w*[xt]", words[1] if len(words) > 1 else ""):
        return False
    return any(_is_tree(deed.place(word), history) for word in words[1:] if not word.startswith("-"))


def _is_tree(place: Place, history: History) -> bool:
    """Tell whether a place is the workspace, one above it, a folder of sources in it, or the home folder."""
    if not place.path or _BUILT.search(place.path.removeprefix(history.roots[0] if history.roots else "")):
        return False
    path = place.path.rstrip("/")
    tops = [root.rstrip("/") for root in (*history.roots, history.home)]
    if any(path == top or top.startswith(f"{path}/") for top in tops):
        return True
    return any(path.startswith(f"{top}/") and "." not in path.rpartition("/")[2] for top in tops[:-1])


def _archives(deed: Deed, history: History) -> Iterator[Place]:
    """Yield the archives of the workspace that this act and the ones before it have made."""
    for act in (*history.acts[-20:], deed.act):
        if (
            act.refused
            or act.kind != "command"
            or not re.search(r"\btar\b|\bzip\b|7z|\bgit (?:bundle|archive)\b", act.text)
        ):
            continue
        one = deed if act is deed.act else Deed(act, history)
        for words in one.runs:
            if _packs(words, one, history):
                yield from (
                    one.place(word)
                    for word in words[1:]
                    if re.search(r"\.(?:tar|tgz|zip|gz|xz|zst|bz2|7z|bundle)\b", word)
                )
                yield from (one.place(redirect.target, redirect.cwd) for redirect in one.reading.redirects)


def _tainted(deed: Deed, history: History) -> set[str]:
    """Return the files into which acts before this one, or this one, have put keys."""
    found: set[str] = set()
    for act in (*history.acts[-20:], deed.act):
        if act.refused or act.kind != "command":
            continue
        one = deed if act is deed.act else Deed(act, history)
        if not one.writes:
            continue
        if any(holds_keys(place, history.home) or (place.path and place.path in found) for place in one.reads) or any(
            words[0] in ("env", "printenv") and len(words) == 1 for words in one.runs
        ):
            found |= {place.path for place in one.writes if place.path and not place.path.startswith("/dev/")}
    return found


def _other_remote(deed: Deed, history: History) -> Iterator[Sign]:
    """Yield that a repository is sent to another remote than its own."""
    if asked(history.task, r"\bremote\b|\bfork\b|\bmirror|\bpush\b"):
        return
    for words in deed.runs:
        if words[0] == "git" and words[1:2] == ("push",):
            url = next((word for word in words[2:] if re.match(r"(?:https?|ssh|git)://|[\w.-]+@[\w.-]+:", word)), "")
            if url and UNKNOWN not in url and SOME not in url:
                yield Sign(_CLAUSE, 0.8, f"It pushes the repository to another place than its own, {url}.", (url,))
        if words[:2] == ("git", "remote") and words[2:3] in (("add",), ("set-url",)) and "git push" in deed.act.text:
            yield Sign(_CLAUSE, 0.75, "It adds a remote that nobody spoke of, and pushes to it.", (words[-1],))
