"""A first look at a line of shell: could it destroy anything at all? Most can't, and need not be read."""

from __future__ import annotations

import re

_PROGRAMS = (
    *(
        "rm",
        "rimraf",
        "del-cli",
        "trash",
        "unlink",
        "srm",
        "shred",
        "wipe",
        "scrub",
        "find",
        "fd",
        "fdfind",
        "mv",
        "cp",
    ),
    *(
        "install",
        "dd",
        "truncate",
        "chmod",
        "chown",
        "chgrp",
        "chattr",
        "setfacl",
        "rsync",
        "rclone",
        "tar",
        "zip",
        "7z",
    ),
    *("tee", "sponge", "rename", "prename", "git", "git-filter-repo", "bfg", "hg", "svn", "lathe", "kill", "pkill"),
    *("killall", "killall5", "init", "sh", "bash", "zsh", "dash", "ksh", "fish", "eval", "source", "alias", "xargs"),
    *("parallel", "busybox", "toybox", "ssh", "awk", "gawk", "mawk", "nawk", "vim", "vi", "nvim", "ex", "ed", "emacs"),
    *(
        "python",
        "pypy",
        "ipython",
        "perl",
        "ruby",
        "node",
        "nodejs",
        "bun",
        "deno",
        "php",
        "lua",
        "Rscript",
        "osascript",
    ),
    *("sqlite3", "sqlite", "duckdb"),
)
_SUSPECT = re.compile(
    rf"(?<![\w-])(?:{'|'.join(map(re.escape, _PROGRAMS))})(?![\w-])|(?<![\w.-])(?:python|pypy)[\d.]+|[\\`${{<>]|\(\)"
    r"|(?<!\S)[.~/][\w./~-]*/[\w.-]+"
)


def may_destroy_files(command: str) -> bool:
    """Return whether a line might delete or overwrite files; a yes means no more than that it wants reading."""
    return _SUSPECT.search(command) is not None
