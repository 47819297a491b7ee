"""Sign-in by OpenID Connect: authorisation code with PKCE, state and nonce (Core 1.0, RFC 7636, RFC 9207)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from sqlalchemy.ext.asyncio import AsyncConnection

from lathe.gateway.identity.fetching import ProviderFailed, fetch_json
from lathe.gateway.identity.id_tokens import ProviderKeys, TokenRefused, check_claims
from lathe.gateway.identity.levels import Level, level_of, reaches
from lathe.gateway.identity.settings import OidcTable, check_address, check_provider
from lathe.gateway.identity.site import Refused, Site
from lathe.gateway.identity.tickets import digest_of, issue, new_secret, take
from lathe.protocol.errors import ConfigError

_METADATA_MS = 3_600_000


class Identified(NamedTuple):
    """A person as a provider names them. `email` is "" where the provider does not vouch for it."""

    issuer: str
    subject: str
    email: str
    name: str
    level: Level
    amr: tuple[str, ...] = ()
    acr: str = ""


class _Metadata(NamedTuple):
    at: int
    authorization: str
    token: str
    userinfo: str
    says_issuer: bool
    basic: bool
    keys: ProviderKeys


class OidcClient:
    """This gateway as the client of one provider; `name` is the table's in the settings, `clock` gives milliseconds."""

    def __init__(self, name: str, table: OidcTable, clock: Callable[[], int]) -> None:
        self.name = name
        self.table = table
        self._clock = clock
        self._known: _Metadata | None = None
        check_provider(name, table)

    @property
    def title(self) -> str:
        """What the sign-in page calls the provider."""
        return self.table.title or self.name

    def redirect_uri(self, site: Site) -> str:
        """Return the address that has to be registered with the provider."""
        return f"{site.origin}/console/sign-in/oidc/{quote(self.name, safe='')}/back"

    async def start(self, connection: AsyncConnection, site: Site, back_to: str, *, link: str = "") -> tuple[str, str]:
        """Return where to send the browser, and a secret for a cookie of its own that `claim` wants again.

        With `link`, the user of that id has signed in already and wants the account there to be theirs.
        """
        known = await self._metadata()
        browser, nonce, verifier = new_secret(), new_secret(), new_secret()
        body = {
            "provider": self.name,
            "browser": digest_of(browser),
            "nonce": nonce,
            "verifier": verifier,
            "back_to": back_to,
            "link": link,
        }
        state = await issue(connection, "oidc", body, self._clock())
        query = {
            "response_type": "code",
            "client_id": self.table.client_id,
            "redirect_uri": self.redirect_uri(site),
            "scope": " ".join(self.table.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": _challenge(verifier),
            "code_challenge_method": "S256",
        }
        if self.table.acr_values:
            query["acr_values"] = " ".join(self.table.acr_values)
        joint = "&" if "?" in known.authorization else "?"
        return f"{known.authorization}{joint}{urlencode(query)}", browser

    async def claim(self, connection: AsyncConnection, query: Mapping[str, str], browser: str) -> dict[str, Any]:
        """Return what `start` kept for the answer in `query`; raise `Refused` where this browser did not ask for it."""
        ticket = await take(connection, "oidc", query.get("state", ""), self._clock())
        kept = ticket.body
        if kept["provider"] != self.name or not hmac.compare_digest(kept["browser"], digest_of(browser)):
            raise Refused("The sign-in was begun in another browser.", hint="Sign in again.", code="state")
        return kept

    async def finish(self, query: Mapping[str, str], kept: Mapping[str, Any], site: Site) -> Identified:
        """Return who has signed in, according to the provider's answer; raise `Refused`, `ProviderFailed`."""
        known = await self._metadata()
        said = query.get("iss")
        if (said is None and known.says_issuer) or said not in (None, self.table.issuer):
            raise Refused("The answer came from another identity provider.", hint="Sign in again.", code="issuer")
        if "error" in query:
            why = query.get("error_description") or query["error"]
            raise Refused(f"{self.title} did not sign you in: {why[:200]}.", code="provider_refused")
        answer = await self._exchange(known, query.get("code", ""), str(kept["verifier"]), site)
        token, access = answer.get("id_token"), answer.get("access_token")
        if not isinstance(token, str) or not isinstance(access, str):
            raise ProviderFailed(f"{self.title} gave no ID token.")
        algorithm, claims = await known.keys.read(token)
        check_claims(
            claims,
            issuer=self.table.issuer,
            client=self.table.client_id,
            nonce=str(kept["nonce"]),
            now=self._clock(),
            algorithm=algorithm,
            access_token=access,
        )
        return await self._identified(known, claims, access)

    async def _exchange(self, known: _Metadata, code: str, verifier: str, site: Site) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri(site),
            "code_verifier": verifier,
        }
        headers: dict[str, str] = {}
        client, secret = self.table.client_id, os.environ.get(self.table.client_secret_env or "", "")
        if secret and known.basic:
            pair = f"{quote(client, safe='')}:{quote(secret, safe='')}".encode()
            headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            form |= {"client_id": client} | ({"client_secret": secret} if secret else {})
        status, answer = await fetch_json(known.token, form=form, headers=headers)
        if status != 200:
            error = answer.get("error")
            if error == "invalid_grant":
                raise Refused(f"{self.title} no longer knows this sign-in.", hint="Sign in again.", code="code")
            raise ProviderFailed(f"{self.title} answered {status} ({str(error)[:60]}) to the code.")
        return answer

    async def _identified(self, known: _Metadata, claims: dict[str, Any], access: str) -> Identified:
        if "email" not in claims and known.userinfo:
            status, more = await fetch_json(known.userinfo, headers={"authorization": f"Bearer {access}"})
            if status == 200:
                if more.get("sub") != claims["sub"]:
                    raise TokenRefused("what the provider says of the user is of somebody else")
                claims = {**more, **claims}
        level = level_of(claims, self.table.mfa_acr, self.table.passkey_acr)
        if not reaches(level, self.table.level):
            raise Refused(
                f"{self.title} says that you signed in with level {level!r}; {self.table.level!r} is needed.",
                hint="Sign in there with a second factor or a passkey.",
                code="level",
            )
        email = claims.get("email") if claims.get("email_verified") is True else ""
        amr, acr = claims.get("amr"), claims.get("acr")
        return Identified(
            issuer=self.table.issuer,
            subject=claims["sub"],
            email=email.strip().lower()[:320] if isinstance(email, str) else "",
            name=str(claims.get("name") or "")[:200],
            level=level,
            amr=tuple(str(one) for one in amr) if isinstance(amr, list) else (),
            acr=acr if isinstance(acr, str) else "",
        )

    async def _metadata(self) -> _Metadata:
        """Return what the provider says of itself (OpenID Connect Discovery 1.0), at most an hour old."""
        known, now = self._known, self._clock()
        if known is not None and now - known.at < _METADATA_MS:
            return known
        issuer = self.table.issuer
        status, said = await fetch_json(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if status != 200 or said.get("issuer") != issuer:
            raise ProviderFailed(f"{self.title} does not say of itself that it is {issuer}.")
        addresses = {}
        for key in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
            value = said.get(key, "" if key == "userinfo_endpoint" else None)
            try:
                if not isinstance(value, str) or (value and check_address(value) is None):
                    raise ConfigError("missing")
            except ConfigError:
                raise ProviderFailed(f"{self.title} names no {key} that can be used.") from None
            addresses[key] = value
        ways = said.get("token_endpoint_auth_methods_supported")
        self._known = _Metadata(
            at=now,
            authorization=addresses["authorization_endpoint"],
            token=addresses["token_endpoint"],
            userinfo=addresses["userinfo_endpoint"],
            says_issuer=said.get("authorization_response_iss_parameter_supported") is True,
            basic=not isinstance(ways, list) or "client_secret_basic" in ways,
            keys=known.keys if known is not None else ProviderKeys(addresses["jwks_uri"], self._clock),
        )
        return self._known


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
