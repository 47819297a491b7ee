"""ID tokens: whose signature they have, for whom and how long they are (OpenID Connect Core 1.0, section 3.1.3.7)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from typing import Any, TypeGuard

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from lathe.gateway.identity.fetching import ProviderFailed, fetch_json
from lathe.gateway.identity.site import Refused
from lathe.protocol.codec import DecodeError, decode_json

_HASHES = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""What a signature may be made with: never `none`, and no secret that two sides share."""
LEEWAY_S = 60
_OLD_MS = 3_600_000
_AGAIN_MS = 30_000

PublicKey = RSAKey | ECKey | OKPKey


class TokenRefused(Refused):
    """An ID token is not what it must be."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The identity provider's token was not accepted: {why}.", hint="Sign in again.", code="token_refused"
        )


class ProviderKeys:
    """The public keys of one provider, fetched again when they are old or one is missing.

    A key that the provider took down is no longer accepted after an hour. A token with an unknown key has them
    fetched at most every 30 seconds, so that made-up tokens cannot be used to flood the provider.
    """

    def __init__(self, url: str, clock: Callable[[], int]) -> None:
        self._url = url
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._fetched: int | None = None

    async def read(self, token: str) -> tuple[str, dict[str, Any]]:
        """Return the algorithm and the claims of a signed token; raise `TokenRefused`, `ProviderFailed`."""
        if self._fetched is None or self._clock() - self._fetched > _OLD_MS:
            await self._fetch()
        try:
            return self._verified(token)
        except TokenRefused:
            if self._fetched is not None and self._clock() - self._fetched < _AGAIN_MS:
                raise
        await self._fetch()
        return self._verified(token)

    async def _fetch(self) -> None:
        status, document = await fetch_json(self._url)
        listed = document.get("keys")
        if status != 200 or not isinstance(listed, list):
            raise ProviderFailed("The identity provider's keys can't be read.")
        self._keys = tuple(_usable(listed))
        self._fetched = self._clock()

    def _verified(self, token: str) -> tuple[str, dict[str, Any]]:
        try:
            header = jws.extract_compact(token.encode()).headers()
        except (JoseError, ValueError, TypeError, AttributeError, KeyError):
            raise TokenRefused("it is no signed token") from None
        algorithm, named = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise TokenRefused(f"its algorithm is {str(algorithm)[:20]!r}")
        for key in self._keys:
            if named is not None and key.kid != named:
                continue
            if key.alg is not None and key.alg != algorithm:
                continue
            try:
                payload = jws.deserialize_compact(token.encode(), key, algorithms=[algorithm]).payload
            except (JoseError, ValueError, TypeError):
                continue
            try:
                claims = decode_json(payload or b"")
            except DecodeError:
                claims = None
            if not isinstance(claims, dict):
                raise TokenRefused("its content is no JSON object")
            return algorithm, claims
        raise TokenRefused("no key of the provider has made its signature")


def _usable(listed: list[Any]) -> Iterator[PublicKey]:
    for one in listed:
        if not isinstance(one, dict) or one.get("use", "sig") != "sig" or one.get("kty") == "oct":
            continue
        try:
            key = JWKRegistry.import_key(one)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key, RSAKey) and key.raw_value.key_size < 2048:
            continue
        if isinstance(key, RSAKey | ECKey | OKPKey):
            yield key


def check_claims(
    claims: dict[str, Any], *, issuer: str, client: str, nonce: str, now: int, algorithm: str, access_token: str
) -> None:
    """Raise `TokenRefused` where the claims are not of this sign-in. `now` is milliseconds since the epoch."""
    seconds = now // 1000
    audience = claims.get("aud")
    parties = [audience] if isinstance(audience, str) else audience if isinstance(audience, list) else []
    if claims.get("iss") != issuer:
        raise TokenRefused("it is by another issuer")
    if client not in parties:
        raise TokenRefused("it is for another client")
    if claims.get("azp", client) != client or (len(parties) > 1 and "azp" not in claims):
        raise TokenRefused("it was given to another client")
    if not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= 255:
        raise TokenRefused("it names no subject")
    expires, issued, since = claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)
    if not _is_time(expires) or expires + LEEWAY_S < seconds:
        raise TokenRefused("it has expired")
    if not _is_time(issued) or issued - LEEWAY_S > seconds or not _is_time(since) or since - LEEWAY_S > seconds:
        raise TokenRefused("it is from the future")
    given = claims.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode("utf-8", "replace"), nonce.encode()):
        raise TokenRefused("it belongs to another sign-in")
    if "at_hash" in claims and claims["at_hash"] != _half_hash(algorithm, access_token):
        raise TokenRefused("it belongs to another access token")


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and -(2**53) < value < 2**53


def _half_hash(algorithm: str, access_token: str) -> str:
    """Return `at_hash` (section 3.1.3.6); EdDSA over Ed25519 hashes with SHA-512."""
    digest = _HASHES.get(algorithm[-3:], hashlib.sha512)(access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
