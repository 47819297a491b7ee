"""Targets of engagements: what lies within, what only looks so, and how they are written."""

from __future__ import annotations

from typing import Any

import pytest

from lathe.gateway.engagements import Targets, engage, read
from lathe.gateway.signing import KeyRing, Signer
from lathe.protocol.errors import UsageError

SIGNER = Signer.fresh()


def opened(**fields: Any) -> Any:
    base: dict[str, Any] = {
        "organisation": "org_1",
        "project": "proj_1",
        "name": "Spring test",
        "authority": "AB" * 32,
        "expires": 2000,
        "now": 1000,
    }
    return engage(SIGNER, **(base | fields))


TARGETS = Targets(
    opened(
        domains=("Example.com.", "xn--bcher-kva.example"),
        networks=("192.0.2.0/24", "198.51.100.7", "2001:db8::/48"),
        repositories=("https://GitHub.com/owner/name.git", "git@git.example.net:group/sub/repo"),
    ).engagement
)


@pytest.mark.parametrize(
    ("target", "within"),
    [
        ("example.com", True),
        ("www.EXAMPLE.com", True),
        ("a.b.example.com.", True),
        ("https://example.com:8443/path?x=1#y", True),
        ("ssh://root@shell.example.com/", True),
        ("example.com:22", True),
        ("xn--bcher-kva.example", True),
        ("192.0.2.77", True),
        ("192.0.2.128/25", True),
        ("http://192.0.2.5/", True),
        ("198.51.100.7", True),
        ("::ffff:192.0.2.9", True),
        ("http://[2001:db8::1]:80/", True),
        ("2001:db8:0:1::/64", True),
        ("https://github.com/owner/name", True),
        ("https://github.com/owner/name.git", True),
        ("https://github.com/owner/name/issues/5", True),
        ("git@github.com:owner/name.git", True),
        ("ssh://git@git.example.net/group/sub/repo.git", True),
        # what only looks so
        ("notexample.com", False),
        ("example.com.evil.net", False),
        ("https://example.com@evil.net/", False),
        ("https://evil.net/example.com", False),
        ("https://evil.net\\@example.com/", False),
        ("https://evil.net#@example.com", False),
        ("https://evil.net?example.com", False),
        ("com", False),
        ("example.com evil.net", False),
        ("example.com\n", False),
        ("exаmple.com", False),  # a Cyrillic letter
        ("bücher.example", False),
        ("http://3221225985/", False),
        ("192.0.3.1", False),
        ("192.0.0.0/16", False),
        ("::ffff:192.0.3.9", False),
        ("2001:db8:1::1", False),
        ("198.51.100.8", False),
        ("https://github.com/owner/other", False),
        ("https://github.com/owner/name-2", False),
        ("https://github.com/owner", False),
        ("https://github.com/owner/name/../other", False),
        ("https://github.com/owner/name/%2e%2e/other", False),
        ("https://github.com.evil.net/owner/name", False),
        ("github.com", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_what_lies_within_the_targets(target: str, within: bool) -> None:
    assert TARGETS.cover(target) is within


def test_targets_are_kept_in_one_form() -> None:
    made = opened(domains=("Example.COM.", "example.com"), networks=("2001:DB8:0::/48",), repositories=("a.b:c/d.git",))
    assert made.engagement.domains == ("example.com",)
    assert made.engagement.networks == ("2001:db8::/48",)
    assert made.engagement.repositories == ("a.b/c/d",)
    assert made.engagement.authority == "ab" * 32
    ring = KeyRing([SIGNER.public_key])
    assert read(made.sealed.text, made.sealed.signature, ring) == made.engagement
    with pytest.raises(UsageError, match="signature"):
        read(made.sealed.text.replace("example.com", "example.net"), made.sealed.signature, ring)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "at least one domain"),
        ({"domains": ("com",)}, "at least two parts"),
        ({"domains": ("*.example.com",)}, r"name example.com without"),
        ({"domains": ("bücher.example",)}, "ASCII form"),
        ({"domains": ("https://example.com",)}, "no domain"),
        ({"domains": ("192.0.2.1",)}, "no domain"),
        ({"networks": ("0.0.0.0/0",)}, "wider than /8"),
        ({"networks": ("2000::/3",)}, "wider than /32"),
        ({"networks": ("192.0.2.1/24",)}, "host bits"),
        ({"networks": ("example.com",)}, "no network"),
        ({"repositories": ("github.com",)}, "no repository"),
        ({"repositories": ("https://github.com/a/../b",)}, "no repository"),
        ({"domains": ("a.example",), "authority": "letter.pdf"}, "SHA-256"),
        ({"domains": ("a.example",), "expires": 1000}, "before it begins"),
        ({"domains": ("a.example",), "name": " "}, "1 to 200"),
        ({"domains": ("a.example",), "project": ""}, "belong to a project"),
    ],
)
def test_an_engagement_that_makes_no_sense_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        opened(**fields)
