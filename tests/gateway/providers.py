"""OpenID providers for tests: a real one, and one that does whatever it is told."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc import jws
from joserfc.jwk import RSAKey

MODULES = Path(__file__).resolve().parents[2] / ".bench" / "node-oidc"
VERSION = "9.13.3"


def install() -> Path:
    """Return the folder with the provider's packages; skip the test where there is no Node.js to install them."""
    if shutil.which("npm") is None:
        pytest.skip("needs Node.js and npm")
    marker = MODULES / f"installed-{VERSION}"
    if not marker.exists():
        MODULES.mkdir(parents=True, exist_ok=True)
        (MODULES / "package.json").write_text('{"private": true}')
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"oidc-provider@{VERSION}"]
        done = subprocess.run(command, cwd=MODULES, capture_output=True, text=True, timeout=100)
        if done.returncode != 0:
            pytest.skip(f"oidc-provider can't be installed: {done.stderr[-300:]}")
        marker.touch()
    return MODULES


@contextlib.contextmanager
def real_provider(*redirects: str) -> Iterator[str]:
    """Run panva's oidc-provider; give its issuer."""
    script = Path(__file__).with_name("oidc_provider.mjs")
    process = subprocess.Popen(
        ["node", str(script), *redirects],
        env={**os.environ, "MODULES": str(install())},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        issuer = process.stdout.readline().strip()
        assert issuer, "the provider did not start"
        yield issuer
    finally:
        process.kill()
        process.communicate()


async def sign_in_there(browser: httpx2.AsyncClient, url: str, login: str, amr: str = "pwd", acr: str = "") -> str:
    """Go through the real provider's pages as a browser does; return the address that it sends the browser back to."""
    issuer = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    posted = False
    for _ in range(10):
        answer = await browser.get(url)
        while answer.status_code == 200 and not posted:
            posted = True
            answer = await browser.post(url, data={"login": login, "amr": amr, "acr": acr})
        assert answer.status_code in (302, 303), answer.text
        url = str(httpx2.URL(url).join(answer.headers["location"]))
        if not url.startswith(issuer):
            return url
    raise AssertionError("the provider went in circles")


class Hostile:
    """A provider whose tokens are made to order: change `claims`, `header`, `key` before the code is exchanged."""

    def __init__(self) -> None:
        self.keys = {"one": RSAKey.generate_key(2048, {"kid": "one"}, private=True)}
        self.signing = "one"
        self.claims: dict[str, Any] = {}
        self.drop: set[str] = set()
        self.header: dict[str, Any] = {}
        self.token: str | None = None
        self.metadata: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.nonce = ""
        self.asked: dict[str, str] = {}
        self.key_fetches = 0
        self.exchanged: list[dict[str, str]] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{server.server_port}"
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def authorise(self, url: str) -> dict[str, str]:
        """Take the browser's question and return the answer's query, as a provider that asks nobody."""
        self.asked = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
        return {"code": "a code", "state": self.asked["state"]}

    def id_token(self) -> str:
        if self.token is not None:
            return self.token
        now = int(time.time())
        access = base64.urlsafe_b64encode(hashlib.sha256(b"access").digest()[:16]).rstrip(b"=").decode()
        claims = {
            "iss": self.issuer,
            "aud": "lathe",
            "sub": "somebody",
            "exp": now + 300,
            "iat": now,
            "nonce": self.asked.get("nonce"),
            "email": "ada@example.org",
            "email_verified": True,
            "at_hash": access,
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if name not in self.drop}
        header = {"alg": "RS256", "kid": self.signing, **self.header}
        return jws.serialize_compact(header, json.dumps(claims), self.keys[self.signing], algorithms=[header["alg"]])

    def answer(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        if path == "/.well-known/openid-configuration":
            return {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                **self.metadata,
            }
        if path == "/keys":
            self.key_fetches += 1
            return {"keys": [key.as_dict(private=False) for key in self.keys.values()]}
        if path == "/userinfo":
            return self.userinfo
        self.exchanged.append(form)
        return {"access_token": "access", "token_type": "Bearer", "id_token": self.id_token()}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
                body = json.dumps(hostile.answer(re.sub(r"\?.*", "", self.path), form)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
