"""`lathe access probe`: proves, on every replica that can be reached, what a key may do now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lathe.cli.access_client import Gateway
from lathe.cli.access_output import print_json
from lathe.gateway.refusals import moment
from lathe.protocol.errors import LatheError

if TYPE_CHECKING:
    from lathe.cli.access import Call

_LIVE_S = 2.0
"""Time within which a change is live on every replica."""


def probe(call: Call) -> int:
    """Ask every replica what is live and what it would decide; return 0 where all that was asked for works."""
    options = call.options
    first = call.gateway.ask("GET", "/v1/access/me")
    models = options.model or [one["model"] for one in first["models"]]
    replicas = _agreeing(call.gateway, first, models, options.surface)
    faults = _faults(replicas)
    open_somewhere = set(models)
    for one in replicas:
        if not one["error"]:
            open_somewhere &= {name for name, answer in one["models"].items() if answer["outcome"] == "serve"}
    works = not faults and bool(open_somewhere) and (not options.model or open_somewhere == set(models))
    if options.json:
        print_json({"works": works, "faults": faults, "replicas": replicas})
        return 0 if works else 1
    _print(first, replicas, faults, options.surface)
    closed = [name for name in models if name not in open_somewhere]
    if works:
        print("Everything that was asked for works." if options.model else "The key works.")
    elif not faults:
        print(f"Not open to this key on {options.surface}: {', '.join(closed) or 'no model is served here'}.")
    return 0 if works else 1


def _agreeing(gateway: Gateway, first: dict[str, Any], models: list[str], surface: str) -> list[dict[str, Any]]:
    """Return what each replica says, asked again for as long as a change may still be on its way."""
    until = time.monotonic() + _LIVE_S
    while True:
        replicas = [_asked(one, models, surface) for one in _replicas(gateway, first)]
        if not _faults(replicas) or time.monotonic() > until:
            return replicas
        time.sleep(0.2)
        first = gateway.ask("GET", "/v1/access/me")


def _replicas(gateway: Gateway, first: dict[str, Any]) -> list[tuple[str, Gateway]]:
    """Return the replicas to ask; one whose address is not told is asked where the gateway as a whole is."""
    listed = [(one["id"], one["address"]) for one in first["replicas"] if one.get("address")]
    addresses = {address for _, address in listed}
    if len(addresses) < 2:
        return [(first["replica"], gateway)]
    return [(id, gateway.at(address)) for id, address in listed]


def _asked(replica: tuple[str, Gateway], models: list[str], surface: str) -> dict[str, Any]:
    id, gateway = replica
    found: dict[str, Any] = {"id": id, "url": gateway.url, "error": "", "models": {}}
    try:
        known = gateway.ask("GET", "/v1/access/me")
        found |= {name: known[name] for name in ("revision", "policy", "tier", "age_ms")}
        found["id"] = known["replica"]
        for model in models:
            question = {"model": model, "surface": surface}
            found["models"][model] = gateway.ask("POST", "/v1/access/check", question)
    except LatheError as error:
        found["error"] = str(error)
    return found


def _faults(replicas: list[dict[str, Any]]) -> list[str]:
    """Return in which way replicas do not work or do not say the same."""
    faults = [f"The replica {one['id']} at {one['url']}: {one['error']}" for one in replicas if one["error"]]
    well = [one for one in replicas if not one["error"]]
    for what in ("policy", "tier"):
        said = {one[what] for one in well}
        if len(said) > 1:
            faults.append(f"The replicas do not know the same {what}: {', '.join(sorted(said))}.")
    return faults


def _print(first: dict[str, Any], replicas: list[dict[str, Any]], faults: list[str], surface: str) -> None:
    who = first["principal"]
    print(f"The key {who['key']} of {who['organisation_name']}/{who['project_name'] or '-'}: tier {first['tier']}.")
    for one in replicas:
        if one["error"]:
            continue
        print(f"The replica {one['id']} at {one['url']} knows revision {one['revision']}, {one['age_ms']} ms old.")
        for name, answer in one["models"].items():
            if answer["outcome"] == "serve":
                instead = f", served by {answer['served']}" if answer["served"] != name else ""
                by = f" by {answer['entitlement']}" if answer["entitlement"] else ""
                print(f"  works      {name} on {surface}: tier {answer['tier']}{by}{instead}")
            else:
                print(f"  works not  {name} on {surface}: {answer['message']} {answer['hint']}".rstrip())
    for one in first["entitlements"]:
        if one["state"] != "live":
            print(f"  {one['id']} ({one['tier']}) does not count: {one['state']}, {moment(one['expires'])}")
    for fault in faults:
        print(f"  FAULT      {fault}")
