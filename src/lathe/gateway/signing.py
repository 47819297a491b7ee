"""Signatures: Ed25519 (RFC 8032), a private key in a file that only its owner can read, public keys known by id.

A set of public keys is a JSON Web Key Set (RFC 7517) of the kind OKP (RFC 8037), as other programs read it too.
Signatures and public keys are base64url without padding.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import importlib.util
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lathe.protocol.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")
_SHARED = stat.S_IRWXG | stat.S_IRWXO


class Signer:
    """A private key. `key_id` is what its signatures are known by, `public_key` what they are verified with."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        raw = private.public_key().public_bytes_raw()
        self.public_key = encode(raw)
        self.key_id = key_id(self.public_key)

    @classmethod
    def open(cls, path: Path) -> Signer:
        """Return the signer of the key file at `path`, made with mode 0600 where there is none.

        Raises `ConfigError` where the file can be read by others, belongs to another user, or holds no such key.
        """
        while True:
            with contextlib.suppress(FileNotFoundError):
                return cls(_read(path))
            fresh = _write_beside(path)
            try:  # a link fails where another process was quicker, a rename would replace its key
                os.link(fresh, path)
            except FileExistsError:
                continue
            except OSError as error:
                raise _unusable(path, error) from None
            finally:
                fresh.unlink()

    @classmethod
    def renew(cls, path: Path) -> Signer:
        """Put a new key in place of the one at `path`, and return its signer; raise `ConfigError`.

        What the old key signed is verified by its public key, which the key ring must hold already.
        """
        fresh = _write_beside(path)
        try:
            fresh.replace(path)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise _unusable(path, error) from None
        return cls(_read(path))

    @classmethod
    def fresh(cls) -> Signer:
        """Return the signer of a new key that is kept nowhere."""
        return cls(_new_key())

    def sign(self, data: bytes) -> str:
        """Return the signature of `data`."""
        return encode(self._private.sign(data))


class KeyRing:
    """Public keys by id. An old key stays in the ring for as long as something that it signed is to be verified."""

    def __init__(self, public_keys: Iterable[str] = ()) -> None:
        self._keys = {key_id(key): key for key in public_keys}

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def public_key(self, key: str) -> str | None:
        """Return the public key with this id, None where the ring has none."""
        return self._keys.get(key)

    def verify(self, key: str, data: bytes, signature: str) -> bool:
        """Say whether `signature` was made over `data` by the key with this id."""
        public = self._keys.get(key)
        return public is not None and verify(public, data, signature)

    def joined(self, public_key: str) -> KeyRing:
        """Return a ring with one key more."""
        return KeyRing((*self._keys.values(), public_key))

    @classmethod
    def from_json(cls, text: bytes) -> KeyRing:
        """Return the ring of a JSON Web Key Set; raise `UsageError` where the text is no set of Ed25519 keys."""
        try:
            found = msgspec.json.decode(text, type=_KeySet)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"The public keys are no set of Ed25519 keys: {error}.") from None
        for one in found.keys:
            if one.kid != key_id(one.x):
                raise UsageError(f"The public key {one.kid[:40]} has an id that is not its own.")
        return cls(one.x for one in found.keys)

    def to_json(self) -> bytes:
        """Return the JSON Web Key Set of the ring."""
        return msgspec.json.encode(_KeySet(keys=[_WebKey(x=key, kid=name) for name, key in self._keys.items()]))


class _WebKey(msgspec.Struct, frozen=True, tag_field="crv", tag="Ed25519"):
    x: str
    kid: str
    kty: str = "OKP"


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[_WebKey]


def verify(public_key: str, data: bytes, signature: str) -> bool:
    """Say whether `signature` was made over `data` with the private half of `public_key`."""
    from cryptography.exceptions import InvalidSignature

    try:
        _public(public_key).verify(decode(signature), data)
    except (InvalidSignature, UsageError):
        return False
    return True


def key_id(public_key: str) -> str:
    """Return what a public key is known by: 16 digits of its SHA-256; raise `UsageError` where it is none."""
    _public(public_key)
    return hashlib.sha256(decode(public_key)).hexdigest()[:16]


def encode(data: bytes) -> str:
    """Return base64url (RFC 4648, section 5) without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes of base64url without padding; raise `UsageError` for any other text.

    A text whose unused last bits are set is refused too, so that every value has one text only.
    """
    if _ALPHABET.fullmatch(text) and len(text) % 4 != 1:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if encode(data) == text:
            return data
    raise UsageError("This is no base64url without padding.")


@functools.lru_cache(maxsize=256)
def _public(public_key: str) -> Ed25519PublicKey:
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        return Ed25519PublicKey.from_public_bytes(decode(public_key))
    except (ValueError, UsageError):
        raise UsageError(f"{public_key[:60]!r} is no Ed25519 public key.") from None


def _new_key() -> Ed25519PrivateKey:
    _require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate()


def _require_cryptography() -> None:
    """Raise `ConfigError` where the package is not installed, as it is an extra."""
    if importlib.util.find_spec("cryptography") is None:
        raise ConfigError(
            "Signing needs the package cryptography.", hint="Install it with pip install 'lathe[gateway]'."
        )


def _read(path: Path) -> Ed25519PrivateKey:
    """Return the key of a file that nobody else can read; raise `FileNotFoundError`, `ConfigError`."""
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & _SHARED:
                raise ConfigError(
                    f"The signing key {path} can be read or changed by other users.", hint=f"chmod 600 {path}"
                )
            if status.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"The signing key {path} belongs to another user.")
            text = file.read(10_000)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise ConfigError(f"The file {path} holds no Ed25519 private key in PEM form without a password.")


def _write_beside(path: Path) -> Path:
    """Write a new key to a file beside `path`, as far as the disk, and return where; raise `ConfigError`."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    text = _new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unusable(path, error) from None
    return fresh


def _unusable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"The signing key {path} can't be used: {error.strerror or error}.")
