"""A STIX bundle and a record of OSV, with names that nobody has."""

from __future__ import annotations

from typing import Any

BUNDLE: dict[str, Any] = {
    "type": "bundle",
    "id": "bundle--1",
    "objects": [
        {"type": "identity", "id": "identity--1"},
        {
            "type": "indicator", "id": "indicator--1", "name": "a stand-in", "pattern_type": "stix", "confidence": 90,
            "pattern": "[domain-name:value = 'Bad.Example'] OR [url:value = 'https://other.example/x/']",
            "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2026-12-31T00:00:00Z",
        },
        {
            "type": "indicator", "id": "indicator--2", "pattern_type": "stix", "valid_from": "2025-01-01T00:00:00Z",
            "valid_until": "2025-02-01T00:00:00Z", "pattern": "[domain-name:value = 'old.example']",
        },
        {
            "type": "indicator", "id": "indicator--3", "pattern_type": "stix", "valid_from": "2025-01-01T00:00:00Z",
            "modified": "2026-05-25T00:00:00Z",
            "pattern": "[ipv4-addr:value ISSUBSET '203.0.113.0/24' OR ipv6-addr:value = '2001:DB8::1']",
        },
        {
            "type": "indicator", "id": "indicator--4", "pattern_type": "stix", "valid_from": "2025-01-01T00:00:00Z",
            "pattern": f"[file:hashes.'SHA-256' = '{'AB' * 32}']",
        },
        {
            "type": "indicator", "id": "indicator--5", "pattern_type": "stix", "valid_from": "2025-01-01T00:00:00Z",
            "pattern": "[process:name = 'x' AND file:name = 'y']",
        },
    ],
}  # fmt: skip
RECORD: dict[str, Any] = {
    "id": "MAL-2026-1",
    "summary": "a stand-in",
    "affected": [
        {"package": {"ecosystem": "PyPI", "name": "Some.Thing"}, "versions": ["1.0", "1.1"]},
        {
            "package": {"ecosystem": "npm", "name": "@scope/thing"},
            "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
        },
    ],
}
