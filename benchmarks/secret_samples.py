"""Secrets made at run time, in the formats that services give them, and the texts in which they turn up."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable
from typing import NamedTuple

LETTERS = string.ascii_letters
ALNUM = LETTERS + string.digits
HEX = "0123456789abcdef"
URL64 = ALNUM + "-_"
BASE64 = ALNUM + "+/"
SYMBOLS = ALNUM + "!#@^*?-_.~"


class Sample(NamedTuple):
    """A text, and what must not be left in it."""

    kind: str
    context: str
    text: str
    secrets: tuple[str, ...]


def of(rng: random.Random, letters: str, count: int) -> str:
    return "".join(rng.choices(letters, k=count))


def jwt(rng: random.Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    head = {"alg": rng.choice(["HS256", "RS256", "ES256"]), "typ": "JWT"}
    body = {"sub": of(rng, string.digits, 10), "iat": rng.randrange(10**9), "scope": of(rng, HEX, 12)}
    return f"{part(head)}.{part(body)}.{of(rng, URL64, 43)}"


TOKENS: dict[str, Callable[[random.Random], str]] = {
    "aws access key": lambda r: r.choice(["AKIA", "ASIA"]) + of(r, string.ascii_uppercase + "234567", 16),
    "github": lambda r: r.choice(["ghp_", "gho_", "ghu_", "ghs_", "ghr_"]) + of(r, ALNUM, 36),
    "github fine-grained": lambda r: f"github_pat_{of(r, ALNUM, 22)}_{of(r, ALNUM, 59)}",
    "gitlab": lambda r: r.choice(["glpat-", "gldt-", "glrt-"]) + of(r, URL64, 20),
    "slack": lambda r: f"xoxb-{of(r, string.digits, 12)}-{of(r, string.digits, 12)}-{of(r, ALNUM, 24)}",
    "slack app": lambda r: (
        f"xapp-1-A{of(r, string.ascii_uppercase + string.digits, 10)}-{of(r, string.digits, 13)}-{of(r, HEX, 64)}"
    ),
    "stripe": lambda r: r.choice(["sk_live_", "rk_live_", "sk_test_"]) + of(r, ALNUM, r.choice([24, 99])),
    "stripe webhook": lambda r: "whsec_" + of(r, ALNUM, 32),
    "openai": lambda r: "sk-" + r.choice(["", "proj-", "svcacct-"]) + of(r, URL64, 48),
    "openai, older": lambda r: f"sk-{of(r, ALNUM, 20)}T3BlbkFJ{of(r, ALNUM, 20)}",
    "anthropic": lambda r: f"sk-ant-api03-{of(r, URL64, 93)}AA",
    "google": lambda r: "AIzaSy" + of(r, URL64, 33),
    "google oauth": lambda r: "ya29." + of(r, URL64, 120),
    "npm": lambda r: "npm_" + of(r, ALNUM, 36),
    "pypi": lambda r: "pypi-AgEIcHlwaS5vcmc" + of(r, URL64, 140),
    "hugging face": lambda r: "hf_" + of(r, LETTERS, 34),
    "sendgrid": lambda r: f"SG.{of(r, URL64, 22)}.{of(r, URL64, 43)}",
    "twilio": lambda r: "SK" + of(r, HEX, 32),
    "digitalocean": lambda r: r.choice(["dop_v1_", "doo_v1_", "dor_v1_"]) + of(r, HEX, 64),
    "azure client": lambda r: f"{of(r, ALNUM, 3)}8Q~{of(r, ALNUM + '-_.~', 33)}a",
    "docker": lambda r: "dckr_pat_" + of(r, URL64, 27),
    "vault": lambda r: "hvs." + of(r, URL64, 95),
    "databricks": lambda r: "dapi" + of(r, HEX, 32),
    "telegram": lambda r: f"{of(r, '123456789', 10)}:AA{of(r, URL64, 33)}",
    "shopify": lambda r: "shpat_" + of(r, HEX, 32),
    "groq": lambda r: "gsk_" + of(r, ALNUM, 52),
    "grafana": lambda r: f"glsa_{of(r, ALNUM, 32)}_{of(r, HEX, 8)}",
    "jwt": jwt,
}
"""Tokens that are known by their form, whatever stands around them."""

VALUES: dict[str, Callable[[random.Random], str]] = {
    "aws secret key": lambda r: of(r, BASE64, 40),
    "hexadecimal key": lambda r: of(r, HEX, r.choice([32, 40, 64])),
    "random letters and digits": lambda r: of(r, ALNUM, r.choice([16, 20, 32, 48])),
    "base64 of 32 bytes": lambda r: base64.b64encode(r.randbytes(32)).decode(),
    "password with symbols": lambda r: of(r, ALNUM, 4) + of(r, SYMBOLS, r.choice([8, 12, 20])) + of(r, ALNUM, 4),
}
"""Values that are known by the name they are assigned to."""

NAMES = ("api_key", "secret_key", "access_token", "password", "client_secret", "db_password", "auth_token", "secret")

CONTEXTS: dict[str, Callable[[str, str], str]] = {
    ".env": lambda s, n: f"DEBUG=1\n{n.upper()}={s}\nPORT=80\n",
    ".env, quoted": lambda s, n: f'{n.upper()}="{s}"\n',
    "shell": lambda s, n: f"$ export {n.upper()}='{s}'\n",
    "JSON": lambda s, n: json.dumps({"host": "x", n: s, "port": 1}),
    "JSON, indented": lambda s, n: json.dumps({"a": {n: s}}, indent=2),
    "YAML": lambda s, n: f"app:\n  {n}: {s}\n  port: 80\n",
    "Python": lambda s, n: f"{n.upper()} = '{s}'\nclient = Client({n}='{s}')\n",
    "ini": lambda s, n: f"[default]\n{n} = {s}\n",
    "diff": lambda s, n: f"@@ -1 +1 @@\n-{n}: none\n+{n}: {s}\n",
    "grep": lambda s, n: f"src/conf/app.env:12:{n.upper()}={s}\n",
}
"""A value after its name."""

ANYWHERE: dict[str, Callable[[str, str], str]] = {
    "log": lambda s, n: f"2026-01-02T03:04:05Z INFO calling api with {s} (try 1)\n",
    "curl -v": lambda s, n: f"> GET /v1 HTTP/2\n> Host: api.example.org\n> X-Thing: {s}\n> Accept: */*\n",
    "bearer": lambda s, n: f"> Authorization: Bearer {s}\r\n",
    "remote": lambda s, n: f"origin\thttps://oauth2:{s}@git.example.org/a/b.git (fetch)\n",
    "traceback": lambda s, n: f"    raise KeyError(name)\nKeyError: '{s}'\n",
    "command line": lambda s, n: f"  1234 ?  Ssl 0:00 server --key={s} --port 80\n",
    "repr": lambda s, n: f"Config(name='x', value='{s}', port=80)\n",
}
"""A token without a name before it."""


def private_key(rng: random.Random) -> list[str]:
    """Return the lines of a key's body."""
    body = base64.b64encode(rng.randbytes(rng.choice([118, 1190]))).decode()
    return [body[at : at + 64] for at in range(0, len(body), 64)]


def key_texts(rng: random.Random) -> list[Sample]:
    lines = private_key(rng)
    kind = rng.choice(["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY"])
    armoured = [f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----"]
    whole = tuple(line for line in lines if len(line) >= 12)
    texts = {
        "file": "\n".join(armoured) + "\n",
        "YAML": "key: |\n" + "".join(f"  {line}\n" for line in armoured),
        "JSON": json.dumps({"private_key": "\n".join(armoured) + "\n"}),
        "diff": "".join(f"+{line}\n" for line in armoured),
        "cat -n": "".join(f"{n:6}\t{line}\n" for n, line in enumerate(armoured, 1)),
        "grep -n": "".join(f"{n}:{line}\n" for n, line in enumerate(armoured, 1)),
        "head": "\n".join(armoured[: len(armoured) // 2 + 1]) + "\n",
        "tail": "\n".join(armoured[len(armoured) // 2 :]) + "\n",
    }
    parts = {"head": armoured[1 : len(armoured) // 2 + 1], "tail": armoured[len(armoured) // 2 : -1]}
    return [
        Sample("private key", context, text, tuple(line for line in parts.get(context, whole) if len(line) >= 12))
        for context, text in texts.items()
    ]


def url_texts(rng: random.Random) -> list[Sample]:
    password = of(rng, ALNUM + "-_.~!*", rng.choice([10, 16, 24])) + "1"
    texts = {
        ".env": f"DATABASE_URL=postgres://app:{password}@db.example.org:5432/app\n",
        "log": f"connecting to amqp://guest:{password}@mq:5672/%2f failed\n",
        "remote": f"origin  https://ada:{password}@git.example.org/a/b.git (push)\n",
        "redis": f"REDIS_URL: redis://:{password}@cache:6379/0\n",
        "traceback": f'OperationalError: ("mysql+pymysql://root:{password}@127.0.0.1/x")\n',
    }
    return [Sample("password in a URL", context, text, (password,)) for context, text in texts.items()]


def connection_texts(rng: random.Random) -> list[Sample]:
    key = base64.b64encode(rng.randbytes(64)).decode()
    short = base64.b64encode(rng.randbytes(32)).decode()
    signature = of(rng, ALNUM, 40) + "%3D"
    hook = f"T{of(rng, ALNUM, 10)}/B{of(rng, ALNUM, 10)}/{of(rng, ALNUM, 24)}"
    basic = base64.b64encode(f"ada:{of(rng, ALNUM, 12)}".encode()).decode()
    return [
        Sample("azure storage", "connection string", f"AccountName=x;AccountKey={key};EndpointSuffix=y\n", (key,)),
        Sample("azure bus", "connection string", f"SharedAccessKeyName=Root;SharedAccessKey={short}\n", (short,)),
        Sample("azure sas", "URL", f"https://x.blob.example.org/a?sv=2024&sig={signature}&se=2\n", (signature,)),
        Sample("slack webhook", "URL", f"curl -X POST https://hooks.slack.com/services/{hook}\n", (hook,)),
        Sample("basic auth", "curl -v", f"> Authorization: Basic {basic}\r\n", (basic,)),
    ]


def samples(seed: int, rounds: int) -> list[Sample]:
    """Return texts with secrets: every kind in every context, `rounds` times."""
    rng = random.Random(seed)
    made: list[Sample] = []
    for _ in range(rounds):
        for kind, make in TOKENS.items():
            for context, place in {**CONTEXTS, **ANYWHERE}.items():
                token = make(rng)
                made.append(Sample(kind, context, place(token, rng.choice(["value", "thing", *NAMES])), (token,)))
        for kind, make in VALUES.items():
            for context, place in CONTEXTS.items():
                value = make(rng)
                name = "aws_secret_access_key" if kind.startswith("aws") else rng.choice(NAMES)
                made.append(Sample(kind, context, place(value, name), (value,)))
        made += [*key_texts(rng), *url_texts(rng), *connection_texts(rng)]
    return made
