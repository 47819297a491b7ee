"""Files that hold keys, and words by which a text names one."""

from __future__ import annotations

import re

from lathe.guard.straying.deeds import Place

_FILES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), asked)
    for pattern, asked in (
        (r"/\.ssh/(?!known_hosts|config$|authorized_keys|[^/]*\.pub$)[^/]+$", r"\bssh\b"),
        (r"/\.ssh/?$", r"\bssh\b"),
        (r"/\.aws/(?:credentials|config)?$", r"\baws\b"),
        (
            r"/\.(?:netrc|pgpass|git-credentials|pypirc|npmrc|dockercfg|my\.cnf)$",
            r"netrc|pgpass|npmrc|pypirc|credential",
        ),
        (r"/\.docker/config\.json$", r"\bdocker\b"),
        (r"/\.kube/config$", r"kube|kubectl"),
        (r"/\.config/(?:gh/hosts\.yml|gcloud/|hub$|op/|rclone/)", r"\bgh\b|gcloud|rclone"),
        (r"/\.gnupg(?:/|$)", r"gpg|gnupg"),
        (r"/\.azure/(?:accessTokens|msal_token)", r"azure"),
        (r"^/etc/(?:shadow|gshadow|sudoers)\b", r"shadow|sudoers"),
        (
            r"/(?:\.mozilla|\.config/(?:google-chrome|chromium))/.*(?:Cookies|Login Data|key\d\.db|logins\.json)",
            r"cookie",
        ),
        (r"/\.(?:bash|zsh|python|psql|mysql)_history$", r"history"),
    )
)
_IN_WORKSPACE = re.compile(
    r"(?:^|/)(?:\.env(?!\.(?:example|sample|template|dist))(?:\.[\w.-]+)?|[^/]*\.pem"
    r"|[^/]*\.p12|[^/]*\.pfx|id_(?:rsa|ed25519)"
    r"|secrets?\.(?:json|ya?ml|toml|env|txt)|credentials\.(?:json|ya?ml|toml|txt)|service[_-]?account[^/]*\.json)$"
)
NAMES = re.compile(
    r"\b\w*(?:SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|AUTH_?TOKEN|_TOKEN|CREDENTIALS?)\w*\b"
)
"""Names of variables that hold keys."""


def is_key(place: Place, home: str) -> str:
    """Return the pattern of words by which a person would ask for these keys, "" where the file holds none."""
    path = place.path or place.word.replace("~", home, 1)
    return next((asked for pattern, asked in _FILES if pattern.search(path)), "")


def holds_keys(place: Place, home: str) -> bool:
    """Tell whether a file holds keys, those of the workspace too."""
    return bool(is_key(place, home)) or bool(_IN_WORKSPACE.search(place.path or place.word))
