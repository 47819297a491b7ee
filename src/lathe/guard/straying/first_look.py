"""Whether an act is worth reading: most lines of shell hold no word of all those that a sign of straying needs."""

from __future__ import annotations

import re

from lathe.guard.history import Act, History

_WORDS = re.compile(
    # hooks, rules, the sandbox
    r"no-verify|commit\s+(?:\S+\s+){0,12}-\w*n|hook|husky|SKIP=|pre-commit|pre_commit|overcommit|lathe|codex|claude|gemini"
    r"|aider|cursor|opencode|goose|nsenter|mount|/proc/|docker|podman|nerdctl|kill|systemctl|systemd|crontab|\bat\b|batch"
    r"|LD_PRELOAD"
    # keys
    r"|\.ssh|\.aws|netrc|pgpass|credential|pypirc|npmrc|my\.cnf|kube|\.config|gnupg|azure|shadow|sudoers|mozilla|chrom"
    r"|_history|\.env|\.pem|\.p12|\.pfx|id_rsa|id_ed|secret|service[_-]?account"
    # what judges the work
    r"|solution|answer|gold|grad(?:er|ing)|hidden|history\s+-c|assume-unchanged|__eq__|TestCase|pytest\.\w+\s*="
    r"|(?:>|\btee\b|\bsed\b|\bperl\b|\brm\b|\bmv\b|\bcp\b|open\(|write|unlink|remove|\bdelete\b)"
    # what leaves
    r"|curl|wget|\bnc\b|ncat|netcat|socat|scp|rsync|ftp|https?|\bxh\b|rclone|\baws\b|gsutil|\baz\b|\bgh\b|mail|mutt"
    r"|telnet|transfer|croc|wormhole|ipfs|openssl|\bdig\b|nslookup|\bhost\b|drill|ping|getent|urllib|requests|socket"
    r"|fetch|axios|paramiko|boto"
    # what goes beyond the task, and what destroys
    r"|push|publish|upload|releas|deploy|apply|terraform|tofu|pulumi|kubectl|helm|\boc\b|vercel|netlify|fly|heroku"
    r"|firebase|serverless|\bcdk\b|chmod|chown|\bln\b|install|truncate|shred|\bdd\b|mkfs|drop|destroy|prune|wipe|flush"
    r"|purge|reset|clean|reflog|branch|clobber|stash|checkout|restore|filter|rmdir|find|touch|mkdir",
    re.IGNORECASE,
)


def worth(act: Act, history: History) -> bool:
    """Tell whether a look at an act may find anything; cheap, and never wrong where it says no."""
    if act.edits or act.wrote or any(one.refused for one in history.acts[-8:]):
        return True
    return act.kind == "command" and _WORDS.search(act.text) is not None
