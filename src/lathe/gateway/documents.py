"""Documents with a signature: the text that was signed, read back only where the signature is genuine, and its state.

The text is canonical JSON (RFC 8785). It says in `type` what it is, so that one kind never passes for another.
"""

from __future__ import annotations

from typing import Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from lathe.gateway.canonical import canonical
from lathe.gateway.signing import KeyRing, Signer
from lathe.protocol.errors import UsageError

LEEWAY_MS = 30_000
"""How far the clock of another machine may be ahead: what begins so soon counts as begun. An end has no leeway."""
State: TypeAlias = Literal["live", "not_begun", "expired", "revoked"]


class Timed(Protocol):
    """What holds for a time: from `starts` until just before `expires`, in milliseconds since the epoch."""

    @property
    def id(self) -> str: ...

    @property
    def starts(self) -> int: ...

    @property
    def expires(self) -> int: ...


_Document = TypeVar("_Document", bound=msgspec.Struct)
_Timed = TypeVar("_Timed", bound=Timed)


class Sealed(NamedTuple):
    """A document as it is kept: its text, the signature over it, and the id of the key."""

    text: str
    signature: str
    key: str


class Held(NamedTuple, Generic[_Timed]):
    """A genuine document with what has become of it since: when it was revoked, and why."""

    document: _Timed
    signature: str
    revoked: int | None = None
    why: str = ""

    def state(self, at: int) -> State:
        """Return whether the document counts at `at` (milliseconds), and if not, why not."""
        if self.revoked is not None:
            return "revoked"
        if at >= self.document.expires:
            return "expired"
        return "live" if at >= self.document.starts - LEEWAY_MS else "not_begun"


def seal(document: msgspec.Struct, signer: Signer) -> Sealed:
    """Sign a document; raise `UsageError` where it holds what can't be signed."""
    text = canonical(document)
    return Sealed(text.decode("utf-8"), signer.sign(text), signer.key_id)


def unseal(kind: type[_Document], text: str, signature: str, ring: KeyRing, key: str = "") -> _Document:
    """Return the document of a text that was signed by the key with this id, or by any of the ring where it is "".

    Raises `UsageError` where the signature does not fit, or the text is of another kind.
    """
    data = text.encode("utf-8", "surrogatepass")
    if not any(ring.verify(one, data, signature) for one in ([key] if key else ring)):
        raise UsageError("The document's signature does not fit it, or its key is not known.", code="signature_invalid")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise UsageError(f"The signed document is not of the kind expected: {error}.", code="kind_invalid") from None


def checked(document: _Document) -> _Document:
    """Return a document whose fields have the types that they should have; raise `UsageError`."""
    try:
        return msgspec.convert(msgspec.to_builtins(document), type(document))
    except msgspec.ValidationError as error:
        raise UsageError(f"{error}.") from None
