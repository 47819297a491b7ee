"""What is deleted behind a network or in a database: SQL, frameworks' resets, clouds, clusters, registries.

Facts: the manuals of the programs named here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lathe.guard.danger import Danger, Site
from lathe.guard.shell_words import UNKNOWN

_SQL = re.compile(
    r"""\b(?:
        drop\s+(?:database|schema|table|view|materialized|index|user|role|keyspace|collection|owned|extension|type)\b
      | truncate\b (?!\s*\()
      | delete\s+from\s+[\w."`\[\]]+\s*(?:;|$|"|')
      | update\s+[\w."`\[\]]+\s+set\s+(?:(?!\bwhere\b)[^;])*(?:;|$)
      | alter\s+table\s+[\w."`\[\]]+\s+drop\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_SQL_CLIENTS: Mapping[str, tuple[str, ...]] = {
    "psql": ("-c", "--command"),
    "mysql": ("-e", "--execute"),
    "mariadb": ("-e", "--execute"),
    "cqlsh": ("-e", "--execute"),
    "sqlcmd": ("-Q", "-q"),
    "clickhouse-client": ("-q", "--query"),
    "cockroach": ("-e", "--execute"),
    "sqlplus": (),
    "bq": (),
    "snowsql": ("-q", "--query"),
    "trino": ("--execute",),
    "usql": ("-c", "--command"),
}
_FILE_CLIENTS = frozenset({"sqlite3", "sqlite", "duckdb"})
_MONGO = re.compile(r"dropDatabase|\.drop\(|deleteMany\(\s*\{\s*\}|remove\(\s*\{\s*\}|dropUser|dropAllUsers")
_RESETS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for names, pattern in (
        ("rails rake", r"db:(?:drop|reset|purge|truncate_all|schema:load|migrate:reset)\S*"),
        ("manage.py django-admin", r"flush|reset_db|migrate \S+ zero|clear_\w+|drop_\w+"),
        ("artisan", r"migrate:(?:fresh|reset|refresh)|db:wipe"),
        ("prisma", r"migrate reset|db push (?:.* )?(?:--force-reset|--accept-data-loss)"),
        ("alembic", r"downgrade (?:.* )?(?:base|-\d+)"),
        ("sequelize sequelize-cli", r"db:drop|db:migrate:undo:all"),
        ("typeorm", r"schema:drop"),
        ("knex", r"migrate:rollback (?:.* )?--all"),
        ("mix", r"ecto\.(?:drop|reset|rollback)"),
        ("doctrine console", r"doctrine:(?:database|schema):drop|orm:schema-tool:drop"),
        ("flyway", r"clean"),
        ("liquibase", r"drop-?all|dropAll|rollback\S*"),
        ("dotnet", r"ef database drop"),
        ("supabase", r"db reset|projects delete"),
        ("wp", r"db (?:reset|drop|clean)"),
        ("drush", r"sql[:-]drop|site:install"),
        ("dropdb dropuser", r".*"),
        ("mysqladmin", r"(?:.* )?drop .*"),
        ("etcdctl", r"(?:.* )?del .*--prefix.*"),
        ("consul", r"kv delete .*-recurse.*"),
        ("vault", r"(?:kv )?(?:delete|destroy|metadata delete|secrets disable|auth disable|lease revoke).*"),
        ("rabbitmqctl", r"(?:force_)?reset|delete_\w+.*|purge_queue.*"),
        ("postsuper", r"-d .*"),
    )
    for name in names.split()
}
_DELETING = r"delete|destroy|terminate|remove|purge|rm|undeploy|uninstall|deprovision"
_CLOUD: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for names, pattern in (
        (
            "aws",
            r"\S+ (?:delete|terminate|remove|deregister|purge|destroy|schedule-key-deletion|reset|empty)\S*"
            r"|s3 (?:rb|rm)\b|s3 sync .*--delete|s3 mv .*--recursive",
        ),
        (
            "gcloud az oci ibmcloud scw doctl hcloud linode-cli openstack eksctl kops",
            rf"(?:\S+ )*(?:{_DELETING}|purge)\b",
        ),
        ("gsutil", r"(?:-m )?(?:rm|rb)\b|(?:-m )?rsync .*-d\b"),
        ("s3cmd", r"(?:rb|del|rm|sync .*--delete-removed)\b"),
        ("mc", r"(?:rm|rb)\b"),
        ("bq", r"rm\b"),
        ("kubectl oc", r"(?:delete|drain)\b|replace .*--force|scale .*--replicas[= ]0|patch .*finalizers"),
        ("helm", r"(?:uninstall|delete|del|un)\b"),
        (
            "terraform tofu terragrunt",
            r"(?:run-all )?(?:destroy\b|apply .*-destroy|state rm|workspace delete|force-unlock)",
        ),
        ("pulumi", r"destroy|stack rm|state delete"),
        ("cdk", r"destroy"),
        ("sls serverless", r"remove"),
        ("sam", r"delete"),
        ("eb", r"terminate"),
        ("heroku", r"apps:destroy|destroy|pg:reset|addons:destroy|config:unset|releases:rollback|apps:delete"),
        ("fly flyctl", r"(?:apps |volumes? |machines? |postgres )?(?:destroy|delete|remove)"),
        ("vercel", r"(?:remove|rm|project rm|projects rm|domains rm|env rm)\b"),
        ("netlify", r"sites:delete|env:unset"),
        ("wrangler", r"delete|(?:kv|r2|d1)\S*(?: \S+)* delete|kv:\S+ delete"),
        ("firebase", r"\S+:(?:delete|remove)|projects:delete|hosting:disable|firestore:delete"),
        ("vagrant", r"destroy"),
        ("virsh", r"(?:undefine|destroy|vol-delete|pool-delete|snapshot-delete)\b"),
        ("lxc incus", r"(?:delete|storage delete|image delete)\b"),
        ("multipass", r"(?:delete|purge)\b"),
        ("minikube kind k3d", r"(?:cluster )?delete\b"),
        ("nomad", r"(?:job )?stop .*-purge|system gc"),
        ("argocd", r"app delete"),
        ("flux", r"delete|uninstall"),
        (
            "gh",
            r"(?:repo|release|secret|variable|gist|issue|label|run|cache|codespace|ssh-key|gpg-key|project) delete\b",
        ),
        ("glab", r"(?:repo|release|variable|issue|mr) delete\b"),
        ("npm pnpm yarn", r"unpublish\b|owner rm\b"),
        ("gem", r"yank\b"),
        (
            "docker podman nerdctl",
            r"(?:system|volume) (?:prune|rm|remove)\b|compose (?:.* )?down .*(?:-v\b|--volumes)"
            r"|swarm leave .*(?:-f|--force)|stack rm\b|service rm\b|machine rm\b",
        ),
        ("docker-compose podman-compose", r"(?:.* )?down .*(?:-v\b|--volumes)|(?:.* )?rm .*-\w*v"),
        ("kafka-topics kafka-topics.sh", r".*--delete"),
    )
    for name in names.split()
}
_REHEARSED = re.compile(r"--(?:dry-?run|dryrun|whatif|check-only|what-if|help)\b(?!=none)|(?:^| )(?:-h|--help)$")
_TELLING = frozenset({"-destroy", "--destroy", "--delete", "-v", "--volumes"})
_LOCAL = re.compile(r"(?:https?://)?(?:localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0)(?::(?!9200)\d+)?(?:/|$)")


def read(words: tuple[str, ...], site: Site) -> list[Danger]:
    """Return the dangers of a command that talks to a service."""
    words = _behind_interpreter(words)
    name, rest = words[0], words[1:]
    if name in _SQL_CLIENTS or name in _FILE_CLIENTS:
        return _sql(name, rest, site)
    if name in ("mongosh", "mongo", "mongos"):
        return _service("drops", "data of MongoDB") if _MONGO.search(_texts(rest, site)) else []
    if name == "redis-cli":
        return _redis(rest)
    if name in ("curl", "wget", "http", "https", "xh"):
        return _request(name, rest)
    if name == "gh" and rest[:1] == ("api",):
        sent = " ".join(rest)
        return _service("deletes", rest[1]) if re.search(r"(?:-X|--method)[ =]?DELETE", sent) and len(rest) > 1 else []
    return _by_table(name, rest)


def _service(act: str, target: str) -> list[Danger]:
    return [Danger(act, target, "service")]


def _behind_interpreter(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return `python manage.py flush` as `manage.py flush`, and so for `php artisan`, `bin/rails`."""
    if re.fullmatch(r"python[\d.]*|php|ruby|node|uv", words[0]):
        for at, word in enumerate(words[1:], 1):
            if word.startswith("-") or word in ("run",):
                continue
            name = word.rsplit("/", 1)[-1]
            return (name, *words[at + 1 :]) if name in _RESETS else words
    return words


def _texts(words: tuple[str, ...], site: Site) -> str:
    return "\n".join((*words, site.run.given.text or ""))


def _sql(name: str, words: tuple[str, ...], site: Site) -> list[Danger]:
    if name == "bq" and words[:1] == ("rm",):
        return _service("deletes", " ".join(words[1:]))
    found = _SQL.search(_texts(words, site))
    if found is None:
        return []
    shown = " ".join(found[0].split())
    if name in _FILE_CLIENTS:
        files = [word for word in words if not word.startswith("-")]
        where = site.reach(files[0]) if files and files[0] != ":memory:" else "scratch"
        return [Danger("runs in the database", shown, where)] if where != "scratch" else []
    return _service("runs in the database", shown)


def _redis(words: tuple[str, ...]) -> list[Danger]:
    said = [word.lower() for word in words]
    if {"flushall", "flushdb"} & set(said):
        return _service("empties", "Redis")
    many = any(word == UNKNOWN or "*" in word for word in words)
    return _service("deletes", "keys of Redis") if {"del", "unlink"} & set(said) and many else []


def _request(name: str, words: tuple[str, ...]) -> list[Danger]:
    method = re.search(r"(?:-X|--request|--method)[ =]?DELETE\b", " ".join(words))
    if method is None and not (name in ("http", "https", "xh") and "DELETE" in words):
        return []
    addresses = [word for word in words if "://" in word or re.match(r"[\w.-]+(?::\d+)?/", word) or _LOCAL.match(word)]
    if addresses and all(_LOCAL.match(address) for address in addresses):
        return []
    return _service("deletes", addresses[0] if addresses else "what is behind the address")


def _by_table(name: str, rest: tuple[str, ...]) -> list[Danger]:
    line = _without_options(name, rest)
    whole = " ".join(rest)
    if _REHEARSED.search(whole):
        return []
    reset = _RESETS.get(name)
    if reset is not None and (reset.match(line) or reset.match(whole)):
        return _service("resets or drops", f"{name} {line}".strip())
    cloud = _CLOUD.get(name)
    if cloud is not None and (cloud.match(line) or cloud.match(whole)):
        return _service("deletes or takes down", f"{name} {line}".strip())
    return []


def _without_options(name: str, words: tuple[str, ...]) -> str:
    """Return the line from its first operand on, without the options that come before and between subcommands."""
    kept: list[str] = []
    at = 0
    valued = {
        "-n",
        "--namespace",
        "--context",
        "--profile",
        "--region",
        "--project",
        "-H",
        "--host",
        "-f",
        "--file",
        "-p",
    }
    while at < len(words):
        word = words[at]
        if word.startswith("-") and len(kept) < 3:
            skip = word in valued and name not in ("gsutil",)
            if kept and word in _TELLING:
                kept.append(word)
            at += 2 if skip else 1
        else:
            kept.append(word)
            at += 1
    return " ".join(kept)
