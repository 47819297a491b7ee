"""Two ways to prove identity with papers: a reviewer says what was seen, an organisation has signed a letter."""

from __future__ import annotations

import hashlib

from lathe.gateway.identity.proof import DAY_MS, Claim, Method, Proof
from lathe.gateway.signing import encode, verify
from lathe.protocol.errors import UsageError

_LETTER_LIMIT = 10 << 20


async def check_manual(claim: Claim) -> Proof:
    """Return what a reviewer states to have seen; raise `UsageError` where they state nothing."""
    what, where = claim.fields.get("seen", "").strip(), claim.fields.get("how", "").strip()
    if not claim.author:
        raise UsageError("A manual proof needs somebody who answers for it.")
    if len(what) < 10:
        raise UsageError("Say what you have seen: the kind of document, who issued it, until when it holds.")
    return Proof("manual", "seen", "", {"seen": what, "how": where}, claim.at, claim.at + 730 * DAY_MS, claim.author)


async def check_letter(claim: Claim) -> Proof:
    """Return the proof that a letter is: by its detached Ed25519 signature, or by a reviewer who has checked it.

    The letter itself is not kept, only its SHA-256 and its size. With a signature, `public_key` is one that the
    organisation has published, and the reviewer says where: the signature binds the letter to that place.
    """
    letter = claim.files.get("letter", b"")
    if not letter or len(letter) > _LETTER_LIMIT:
        raise UsageError(f"A letter is a file of at most {_LETTER_LIMIT >> 20} MB.")
    if not claim.author:
        raise UsageError("A letter needs a reviewer who has read it.")
    signature, key = claim.fields.get("signature", "").strip(), claim.fields.get("public_key", "").strip()
    where, note = claim.fields.get("published", "").strip(), claim.fields.get("note", "").strip()
    evidence = {"sha256": hashlib.sha256(letter).hexdigest(), "bytes": len(letter), "note": note}
    if signature or key:
        if not _is_signed(letter, signature, key):
            raise UsageError("The signature is not the letter's by this key.", hint="Ed25519, in base64url or hex.")
        if not where:
            raise UsageError("Say where the organisation has published the key.")
        evidence |= {"public_key": key, "published": where}
    elif len(note) < 10:
        raise UsageError("Say how the letter was checked, or give its signature and the key.")
    return Proof("letter", "seen", "", evidence, claim.at, claim.at + 365 * DAY_MS, claim.author)


def _is_signed(letter: bytes, signature: str, key: str) -> bool:
    try:
        # hexadecimal is taken too, which is what many tools print
        made = [encode(bytes.fromhex(text)) if len(text) in (64, 128) else text for text in (key, signature)]
    except ValueError:
        return False
    return verify(made[0], letter, made[1])


MANUAL = Method(
    "manual",
    "Seen by a reviewer",
    check_manual,
    (("seen", "What was seen"), ("how", "Where and how")),
    by_reviewer=True,
)
LETTER = Method(
    "letter",
    "Letter of the organisation",
    check_letter,
    (
        ("letter", "The letter*"),
        ("signature", "Detached Ed25519 signature"),
        ("public_key", "Public key"),
        ("published", "Where the key is published"),
        ("note", "How it was checked"),
    ),
    by_reviewer=True,
    for_organisations=True,
)
