"""Receipts: for every request, what was asked, what was served and which rule said so, signed.

A receipt is canonical JSON (RFC 8785) with an Ed25519 signature (RFC 8032) over it. People get it as a document
`{"receipt": {...}, "signature": ..., "key": ...}`, which is verified from the file alone with the public key.
"""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

import msgspec

from lathe.gateway.canonical import canonical, read_strictly
from lathe.gateway.documents import seal
from lathe.gateway.principals import Surface, Tier
from lathe.gateway.signing import KeyRing, Signer
from lathe.protocol.errors import UsageError

Outcome: TypeAlias = Literal["serve", "refuse"]
_FIELDS = {"receipt", "signature", "key"}
_LARGEST = 1_000_000
# an escape in capitals means the same, but nobody writes it so: without it every bit of a document counts
_CAPITAL = re.compile(r"(?<!\\)(?:\\\\)*\\u[0-9a-f]{0,3}[A-F]")


class Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens. `input` counts those read from a cache too, `output` those of reasoning."""

    input: int = 0
    cached: int = 0
    output: int = 0


class Receipt(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag="lathe.receipt.v1"
):
    """What happened to one request. Times are milliseconds since the epoch, `cost` is millionths of a US dollar.

    `outcome` and `code` are the decision's, `clause` the rule that said so in the policy with the hash `policy`.
    `status` and `failure` say how a request that was to be served ended. `substitution` says why another model was
    served than was asked for. `request_sha256`, `response_sha256` are of the bodies, "" where they are not taken.
    """

    id: str
    at: int
    organisation: str
    project: str
    key: str
    requested: str
    wire: str
    surface: Surface
    outcome: Outcome
    policy: str
    replica: str
    user: str = ""
    end_user: str = ""
    served: str = ""
    region: str = ""
    tier: Tier = "default"
    entitlement: str = ""
    engagement: str = ""
    clause: str = ""
    code: str = ""
    substitution: str = ""
    no_fallback: bool = False
    status: int = 0
    failure: str = ""
    ended: int = 0
    usage: Usage = Usage()
    cost: int = 0
    request_sha256: str = ""
    response_sha256: str = ""
    chain: str = ""
    guard: str = ""
    guard_policy: str = ""
    guard_decision: str = ""


def signed(receipt: Receipt, signer: Signer) -> tuple[str, str]:
    """Return the text of a receipt and its signature; raise `UsageError` where it holds what can't be signed."""
    sealed = seal(receipt, signer)
    return sealed.text, sealed.signature


def document(text: str, signature: str, key: str) -> bytes:
    """Return what people get of a receipt: its text, the signature, and the id of the key."""
    return b'{"key":%b,"receipt":%b,"signature":%b}' % (canonical(key), text.encode("utf-8"), canonical(signature))


def verify_receipt(document: bytes, public_keys: KeyRing) -> Receipt:
    """Return the receipt of a document that is genuine; raise `UsageError` that says in what way it is not.

    The document may have been laid out anew since (spaces, the order of keys): what it says is what was signed.
    """
    if len(document) > _LARGEST:
        raise UsageError(f"This is no receipt: it is larger than {_LARGEST:,} bytes.", code="receipt_malformed")
    try:
        found = read_strictly(document)
        if _CAPITAL.search(document.decode("utf-8")):
            raise UsageError("It holds an escape in capital letters.")
        if not isinstance(found, dict) or set(found) != _FIELDS:
            raise UsageError("It must have the fields receipt, signature and key, and no others.")
        receipt, signature, key = found["receipt"], found["signature"], found["key"]
        if not isinstance(receipt, dict) or not isinstance(signature, str) or not isinstance(key, str):
            raise UsageError("Its field receipt must be an object, signature and key must be strings.")
        text = canonical(receipt)
    except UsageError as error:
        raise UsageError(f"This is no receipt. {error.message}", code="receipt_malformed") from None
    if key not in public_keys:
        known = ", ".join(public_keys) or "none"
        raise UsageError(
            f"The receipt was signed with the key {key[:40]}, which is not among the public keys ({known}).",
            hint="Get the gateway's public keys anew, or doubt the receipt.",
            code="receipt_key_unknown",
        )
    if not public_keys.verify(key, text, signature):
        raise UsageError(
            "The receipt has been changed: its signature does not fit what it says.", code="receipt_changed"
        )
    try:
        return msgspec.json.decode(text, type=Receipt)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise UsageError(
            f"The text is signed but is no receipt that this version knows: {error}.", code="receipt_unknown"
        ) from None
