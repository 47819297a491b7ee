"""`lathe access`: what is live, applications and their review, entitlements, engagements, rollouts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from lathe.cli.access import Call, Words
from lathe.cli.access_client import segment
from lathe.cli.access_output import print_json, read_time, show, show_list
from lathe.cli.access_probe import probe
from lathe.gateway.refusals import moment
from lathe.protocol.errors import UsageError

_APPLICATION = ("id", "state", "tier", "subject", "why", "wanted", "evidence", "renews", "entitlement", "needs",
                "author", "created:time", "decided:time")  # fmt: skip
_ENTITLEMENT = ("id", "state", "tier", "subject", "models", "surfaces", "scope", "project", "starts:time",
                "expires:time", "revoked:time", "revoked_why")  # fmt: skip
_ENGAGEMENT = ("id", "state", "name", "project", "domains", "networks", "repositories", "authority", "starts:time",
               "expires:time", "revoked:time")  # fmt: skip


def add_commands(words: Words) -> None:
    """Add the commands of this module."""
    words.add("me", "Say what is live for your key now", me)
    command = words.add("probe", "Prove on every replica what works and what does not", probe)
    command.add_argument("--model", metavar="NAME", action="append", default=[], help="only this model")
    command.add_argument("--surface", choices=["cli", "ide", "api", "batch"], default="api")
    _add_applications(words)
    command = words.add("grants", "List entitlements, or show one", grants)
    command.add_argument("id", nargs="?", help="one entitlement")
    command.add_argument("--live", action="store_true", help="only those that count now")
    command = words.add("revoke", "Take an entitlement or an engagement back, at once", revoke)
    command.add_argument("id", help="ent_… or eng_…")
    command.add_argument("--why", required=True, help="the reason, which its holder reads")
    _add_engagements(words.group("engagements", "Authorised security work: targets, window, authority"))
    _add_rollouts(words.group("rollout", "When a model opens, on which surface, to whom"))


def _add_applications(words: Words) -> None:
    command = words.add("apply", "Apply for a tier", apply)
    command.add_argument("--tier", required=True, choices=["verified", "organisation", "specialist"])
    command.add_argument("--why", required=True, help="what it is for")
    command.add_argument("--subject", default="", help="user:ID, project:ID or organisation:ID; you if left out")
    command.add_argument("--model", metavar="NAME", action="append", default=[], help="a model; all if left out")
    command.add_argument("--surface", action="append", default=[], choices=["cli", "ide", "api", "batch"])
    command.add_argument("--scope", metavar="WORD", action="append", default=[], help="such as cyber.defensive")
    command.add_argument("--project", default="", help="only for this project")
    command.add_argument("--days", type=int, default=365, help="for how long (365)")
    command.add_argument("--evidence", metavar="TEXT|FILE", action="append", default=[], help="a link, words or a file")
    command.add_argument("--renews", metavar="ID", default="", help="the entitlement that this one is to follow")
    command = words.add("applications", "List applications, or show one", applications)
    command.add_argument("id", nargs="?", help="one application")
    command.add_argument("--state", choices=["submitted", "approved", "declined", "withdrawn"])
    command = words.add("withdraw", "Withdraw an application", withdraw)
    command.add_argument("id")
    command = words.add("review", "Approve or decline an application", review)
    command.add_argument("id")
    command.add_argument("verdict", choices=["approve", "decline"])
    command.add_argument("--note", default="", help="why; a decline needs it")


def _add_engagements(words: Words) -> None:
    command = words.add("list", "List engagements, or show one", engagements)
    command.add_argument("id", nargs="?", help="one engagement")
    command.add_argument("--live", action="store_true", help="only those that count now")
    command = words.add("open", "Open an engagement", engage)
    command.add_argument("name")
    command.add_argument("--project", required=True, help="id or name")
    command.add_argument("--authority", required=True, metavar="FILE|SHA256", help="the document that gives authority")
    command.add_argument("--until", required=True, metavar="TIME", help="30d, 2027-01-31, …")
    command.add_argument("--from", dest="starts", metavar="TIME", help="now if left out")
    command.add_argument("--domain", action="append", default=[], help="with all its subdomains")
    command.add_argument("--network", action="append", default=[], help="10.0.0.0/24, …")
    command.add_argument("--repository", action="append", default=[], help="github.com/owner/name")
    command = words.add("revoke", "End an engagement, at once", revoke)
    command.add_argument("id")
    command.add_argument("--why", required=True)


def _add_rollouts(words: Words) -> None:
    command = words.add("show", "Show the schedules in force and those proposed", rollout_show)
    command.add_argument("version", nargs="?", help="one version")
    command.add_argument("--model", default="", metavar="NAME")
    command = words.add("propose", "Propose a schedule, for another person to approve", rollout_propose)
    command.add_argument("model")
    command.add_argument("--schedule", required=True, metavar="FILE", help='JSON: {"entries": [{"from": …}, …]}')
    command.add_argument("--why", required=True)
    command = words.add("review", "Approve or decline a proposal; what is approved is in force at once", rollout_review)
    command.add_argument("version")
    command.add_argument("verdict", choices=["approve", "decline"])
    command.add_argument("--note", default="", help="why; a decline needs it")
    command = words.add("rehearse", "Try a schedule on the requests of a day", rollout_rehearse)
    command.add_argument("what", metavar="VERSION|MODEL")
    command.add_argument("--schedule", metavar="FILE", help="a schedule that is not proposed yet")
    command.add_argument("--day", required=True, metavar="YYYY-MM-DD")
    command.add_argument("--as-of", metavar="TIME", help="judge each request as if it came then")


def me(call: Call) -> None:
    """Print what is live."""
    found = call.gateway.ask("GET", "/v1/access/me")
    if call.options.json:
        print_json(found)
        return
    who = found["principal"]
    roles = ", ".join(who["roles"]) or "none"
    whose = who.get("email") or ("a machine" if not who["user"] else who["user"])
    print(f"{whose}, organisation {who['organisation_name']}, project {who['project_name'] or 'none'}")
    print(f"roles: {roles}; scopes of the key: {', '.join(who['scopes'])}")
    print(f"replica {found['replica']}, revision {found['revision']}, known {found['age_ms']} ms ago")
    print(f"tier: {found['tier']}")
    for one in found["entitlements"]:
        print(
            f"  {one['id']}: {one['tier']} for {', '.join(one['models'])}, {one['state']}, to {moment(one['expires'])}"
        )
    for one in found["engagements"]:
        print(f"  {one['id']}: engagement {one['name']}, {one['state']}, to {moment(one['expires'])}")
    print("models:")
    for model in found["models"]:
        for surface, state in model["surfaces"].items():
            print(f"  {model['model']} on {surface}: {'open' if state['open'] else state['message']}")
    for scope, limits in found["limits"].items():
        print(f"limits of the {scope}: {limits}")


def apply(call: Call) -> None:
    """Submit an application."""
    options = call.options
    wanted: dict[str, Any] = {"days": options.days, "scope": options.scope}
    wanted |= {"models": options.model} if options.model else {}
    wanted |= {"surfaces": options.surface} if options.surface else {}
    wanted |= {"project": call.gateway.project(options.project)} if options.project else {}
    body = {
        "tier": options.tier,
        "why": options.why,
        "subject": options.subject,
        "wanted": wanted,
        "evidence": [_evidence(one) for one in options.evidence],
        "renews": options.renews,
    }
    show(call, call.gateway.ask("POST", "/v1/access/applications", body), _APPLICATION)


def applications(call: Call) -> None:
    """List applications or show one."""
    path = "/v1/access/applications"
    if call.options.id:
        found = call.gateway.ask("GET", f"{path}/{segment(call.options.id)}")
        show(call, found, _APPLICATION)
        if not call.options.json:
            for one in found["reviews"]:
                print(f"{one['verdict']} by {one['reviewer']} on {moment(one['at'])}: {one['note'] or 'no note'}")
        return
    columns = ("id", "state", "tier", "subject", "needs", "created:time", "why")
    show_list(call, path, {"state": call.options.state}, columns)


def withdraw(call: Call) -> None:
    """Withdraw an application."""
    path = f"/v1/access/applications/{segment(call.options.id)}/withdraw"
    show(call, call.gateway.ask("POST", path, {}), _APPLICATION)


def review(call: Call) -> None:
    """Review an application."""
    body = {"verdict": call.options.verdict, "note": call.options.note}
    path = f"/admin/v1/applications/{segment(call.options.id)}/review"
    show(call, call.gateway.ask("POST", path, body), _APPLICATION)


def grants(call: Call) -> None:
    """List entitlements or show one."""
    if call.options.id:
        path = f"/admin/v1/entitlements/{segment(call.options.id)}"
        show(call, call.gateway.ask("GET", path), _ENTITLEMENT)
        return
    columns = ("id", "state", "tier", "subject", "models", "surfaces", "scope", "expires:time")
    show_list(call, "/v1/access/entitlements", {"live": call.options.live or None}, columns)


def revoke(call: Call) -> None:
    """Revoke what an id stands for."""
    id = call.options.id
    kinds = {"ent": ("entitlements", _ENTITLEMENT), "eng": ("engagements", _ENGAGEMENT)}
    found = kinds.get(id.partition("_")[0])
    if found is None:
        raise UsageError(
            f"{id!r} is no id of an entitlement or an engagement.", hint="Keys: lathe access keys revoke ID."
        )
    kind, columns = found
    path = f"/admin/v1/{kind}/{segment(id)}/revoke"
    show(call, call.gateway.ask("POST", path, {"why": call.options.why}), columns)


def engagements(call: Call) -> None:
    """List engagements or show one."""
    path = "/admin/v1/engagements"
    if call.options.id:
        show(call, call.gateway.ask("GET", f"{path}/{segment(call.options.id)}"), _ENGAGEMENT)
        return
    columns = ("id", "state", "name", "project", "domains", "networks", "repositories", "expires:time")
    show_list(call, path, {"live": call.options.live or None}, columns)


def engage(call: Call) -> None:
    """Open an engagement."""
    options = call.options
    body = {
        "project": call.gateway.project(options.project),
        "name": options.name,
        "authority": _sha256(options.authority),
        "expires": read_time(options.until),
        "domains": options.domain,
        "networks": options.network,
        "repositories": options.repository,
    }
    body |= {"starts": read_time(options.starts)} if options.starts else {}
    show(call, call.gateway.ask("POST", "/admin/v1/engagements", body), _ENGAGEMENT)


def rollout_show(call: Call) -> None:
    """List schedules or show one version."""
    path = "/admin/v1/rollouts"
    fields = ("version", "state", "model", "why", "author", "created:time", "active:time", "schedule", "reviews")
    if call.options.version:
        show(call, call.gateway.ask("GET", f"{path}/{segment(call.options.version)}"), fields)
        return
    columns = ("version", "state", "model", "created:time", "active:time", "why")
    show_list(call, path, {"model": call.options.model}, columns)


def rollout_propose(call: Call) -> None:
    """Propose a schedule."""
    options = call.options
    body = {"model": options.model, "schedule": _schedule(options.schedule), "why": options.why}
    found = call.gateway.ask("POST", "/admin/v1/rollouts", body)
    show(call, found, ("version", "state", "model", "schedule", "why"))
    if not call.options.json:
        print(f"Another person approves it with: lathe access rollout review {found['version']} approve")


def rollout_review(call: Call) -> None:
    """Review a proposal."""
    body = {"verdict": call.options.verdict, "note": call.options.note}
    path = f"/admin/v1/rollouts/{segment(call.options.version)}/review"
    show(call, call.gateway.ask("POST", path, body), ("version", "state", "model", "schedule", "active:time"))


def rollout_rehearse(call: Call) -> None:
    """Rehearse a schedule."""
    options = call.options
    body: dict[str, Any] = {"day": options.day}
    if options.schedule:
        body |= {"model": options.what, "schedule": _schedule(options.schedule)}
    elif options.what.isdecimal():
        body["version"] = int(options.what)
    else:
        raise UsageError(f"{options.what!r} is no version.", hint="Give --schedule FILE with a model's name.")
    body |= {"at": read_time(options.as_of)} if options.as_of else {}
    found = call.gateway.ask("POST", "/admin/v1/rollouts/rehearse", body)
    if options.json:
        print_json(found)
        return
    part = "" if found["complete"] else " (only the last of that day were read)"
    print(f"{found['changed']} of {found['requests']} requests would be answered otherwise{part}.")
    for one in found["changes"]:
        projects = len(one["projects"])
        print(f"  {one['requests']:>8}  {one['before']} -> {one['after']}, {projects} project{'s' * (projects != 1)}")
        for example in one["examples"][:1]:
            print(f"            such as {example['request']}: {example['after']}")


def _evidence(text: str) -> dict[str, str]:
    """Return a link, the hash of a file, or words."""
    if text.startswith(("https://", "http://")):
        return {"kind": "link", "text": text}
    path = Path(text).expanduser()
    if len(text) < 500 and path.is_file():
        return {"kind": "document", "text": path.name, "sha256": _sha256(text)}
    return {"kind": "statement", "text": text}


def _sha256(text: str) -> str:
    """Return a hash that is one already, or that of a file; raise `UsageError`."""
    if len(text) == 64 and all(letter in "0123456789abcdefABCDEF" for letter in text):
        return text.lower()
    try:
        with Path(text).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{text} can't be read: {error.strerror}.", hint="Give a file or its SHA-256.") from None


def _schedule(name: str) -> Any:
    from lathe.protocol.codec import DecodeError, decode_json

    try:
        return decode_json(Path(name).expanduser().read_bytes())
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}.") from None
    except (DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} is no JSON: {error}.") from None
