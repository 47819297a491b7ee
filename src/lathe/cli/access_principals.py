"""`lathe access`: organisations, projects, users, groups and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lathe.cli.access_client import segment
from lathe.cli.access_output import print_fields, print_json, print_table, read_time, show, show_list
from lathe.protocol.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from lathe.cli.access import Call, Words

_ORGANISATION = ("id", "name", "created:time", "settings")
_PROJECT = ("id", "name", "organisation", "created:time", "archived:time", "settings")
_USER = ("id", "email", "name", "roles", "organisation", "active", "identity", "created:time")
_GROUP = ("id", "name", "organisation", "grants", "members", "created:time")
_KEY = ("id", "name", "hint", "organisation", "project", "user", "scopes", "surface", "settings", "created:time",
        "expires:time", "revoked:time", "replaces")  # fmt: skip
_ROLES = ["operator", "reviewer", "auditor", "admin", "member"]


def add_commands(words: Words) -> None:
    """Add the commands of this module."""
    _add_keys(words.group("keys", "Keys: made, shown once, rotated, revoked"))
    _add_organisations(words.group("orgs", "Organisations"))
    _add_projects(words.group("projects", "Projects and their members"))
    _add_users(words.group("users", "Users: people who sign in or hold keys"))
    _add_groups(words.group("groups", "Groups, which give their members projects and roles"))


def _add_keys(words: Words) -> None:
    command = words.add("list", "List keys, without their secrets", list_keys)
    command.add_argument("--live", action="store_true", help="only those that work")
    command.add_argument("--project", default="", help="id or name")
    command.add_argument("--user", default="", help="id or e-mail address")
    command = words.add("create", "Make a key; its secret is printed this once", create_key)
    command.add_argument("name", nargs="?", default="")
    owner = command.add_mutually_exclusive_group()
    owner.add_argument("--machine", action="store_true", help="a key of no person")
    owner.add_argument("--user", default="", help="for another user: id or e-mail address")
    command.add_argument("--org", default="", help="of another organisation: id or name")
    command.add_argument("--project", default="", help="the project that is charged: id or name")
    command.add_argument("--scope", action="append", default=[], choices=["relay", "admin", "batch", "scim", "metrics"])
    command.add_argument("--surface", default="", choices=["cli", "ide", "api", "batch"], help="where it is used")
    command.add_argument("--expires", metavar="TIME", help="90d, 2027-01-31, …; never if left out")
    _limits(command)
    command = words.add("rotate", "Make a key in place of another, which works on for a while", rotate_key)
    command.add_argument("id")
    command.add_argument("--overlap", metavar="SPAN", default="1d", help="0, 30m, 12h, 7d (1d)")
    command = words.add("revoke", "Revoke a key, at once", revoke_key)
    command.add_argument("id")
    command = words.add("change", "Rename a key, limit it, have it expire", change_key)
    command.add_argument("id")
    command.add_argument("--name")
    command.add_argument("--expires", metavar="TIME")
    _limits(command)


def _add_organisations(words: Words) -> None:
    words.add("list", "List organisations", list_organisations)
    command = words.add("create", "Make an organisation", create_organisation)
    command.add_argument("name")
    _limits(command)
    command = words.add("change", "Rename or limit an organisation", change_organisation)
    command.add_argument("organisation", metavar="ORG", help="id or name")
    command.add_argument("--name")
    _limits(command)


def _add_projects(words: Words) -> None:
    command = words.add("list", "List projects", list_projects)
    command.add_argument("--archived", action="store_true", help="archived ones too")
    command = words.add("create", "Make a project", create_project)
    command.add_argument("name")
    command.add_argument("--org", default="", help="of another organisation: id or name")
    _settings(command)
    command = words.add("change", "Rename a project, or set what holds for it", change_project)
    command.add_argument("project", help="id or name")
    command.add_argument("--name")
    _settings(command)
    for name, what in (("archive", "Archive a project: its keys work no longer"), ("restore", "Bring a project back")):
        command = words.add(name, what, archive_project)
        command.add_argument("project", help="id or name")
        command.set_defaults(archived=name == "archive")
    command = words.add("members", "List the members of a project", list_members)
    command.add_argument("project", help="id or name")
    for name, what in (("add", "Make a user a member"), ("remove", "End a membership")):
        command = words.add(name, what, add_member if name == "add" else remove_member)
        command.add_argument("project", help="id or name")
        command.add_argument("user", help="id or e-mail address")


def _add_users(words: Words) -> None:
    words.add("list", "List users", list_users)
    command = words.add("show", "Show a user", show_user)
    command.add_argument("user", help="id or e-mail address")
    command = words.add("create", "Make a user", create_user)
    command.add_argument("email")
    command.add_argument("--name", default="")
    command.add_argument("--org", default="", help="of another organisation: id or name")
    command.add_argument("--role", action="append", default=[], choices=_ROLES)
    command.add_argument("--project", action="append", default=[], help="a project to be a member of: id or name")
    command = words.add("roles", "Set the roles of a user", change_user)
    command.add_argument("user", help="id or e-mail address")
    command.add_argument("roles", nargs="+", choices=_ROLES)
    for name, what in (("deactivate", "Deactivate a user: signed out, no key works"), ("activate", "Activate a user")):
        command = words.add(name, what, change_user)
        command.add_argument("user", help="id or e-mail address")
        command.set_defaults(active=name == "activate")
    command = words.add("identify", "Record that a person has been identified", identify_user)
    command.add_argument("user", help="id or e-mail address")
    command.add_argument("--method", choices=["manual", "letter"], default="manual")
    command.add_argument("--level", choices=["basic", "document", "in_person"], default="document")
    command.add_argument("--note", required=True, help="who saw what")


def _add_groups(words: Words) -> None:
    words.add("list", "List groups with their members", list_groups)
    command = words.add("create", "Make a group", create_group)
    command.add_argument("name")
    command.add_argument("--org", default="", help="of another organisation: id or name")
    command.add_argument("--project", action="append", default=[], help="a project that members get: id or name")
    command.add_argument("--role", action="append", default=[], choices=_ROLES)
    command = words.add("delete", "Delete a group", delete_group)
    command.add_argument("group")
    for name, what in (("add", "Put a user into a group"), ("remove", "Take a user out of a group")):
        command = words.add(name, what, change_group_member)
        command.add_argument("group")
        command.add_argument("user", help="id or e-mail address")
        command.set_defaults(method="PUT" if name == "add" else "DELETE")


def _limits(command: argparse.ArgumentParser) -> None:
    command.add_argument("--requests-per-minute", type=float, metavar="N")
    command.add_argument("--tokens-per-minute", type=float, metavar="N")
    command.add_argument("--concurrent", type=int, metavar="N")
    command.add_argument("--budget", type=float, metavar="USD", help="a month")
    command.add_argument("--no-limits", action="store_true", help="drop the limits that there are")


def _settings(command: argparse.ArgumentParser) -> None:
    _limits(command)
    command.add_argument("--retention", choices=["full", "metadata", "zero"])
    command.add_argument(
        "--fallback", metavar="MODEL=OTHER,…", action="append", default=[], help="what may be served in its place"
    )


def list_keys(call: Call) -> None:
    """List keys."""
    options = call.options
    query = {"live": options.live or None, "project": call.gateway.project(options.project)}
    query["user"] = call.gateway.user(options.user)
    columns = ("id", "name", "hint", "project", "user", "scopes", "expires:time", "revoked:time")
    show_list(call, "/admin/v1/keys", query, columns)


def create_key(call: Call) -> None:
    """Make a key."""
    options = call.options
    body: dict[str, Any] = {
        "name": options.name,
        "owner": "machine" if options.machine else call.gateway.user(options.user) or "me",
        "organisation": call.gateway.organisation(options.org),
        "project": call.gateway.project(options.project),
        "scopes": options.scope or ["relay"],
        "surface": options.surface,
    }
    body |= {"expires": read_time(options.expires)} if options.expires else {}
    body |= {"settings": settings} if (settings := _chosen(call)) else {}
    _secret(call, call.gateway.ask("POST", "/admin/v1/keys", body))


def rotate_key(call: Call) -> None:
    """Rotate a key."""
    import time

    overlap = call.options.overlap
    seconds = 0 if overlap == "0" else read_time(overlap) / 1000 - time.time()
    path = f"/admin/v1/keys/{segment(call.options.id)}/rotate"
    _secret(call, call.gateway.ask("POST", path, {"overlap_s": max(0, round(seconds))}))


def revoke_key(call: Call) -> None:
    """Revoke a key."""
    path = f"/admin/v1/keys/{segment(call.options.id)}/revoke"
    show(call, call.gateway.ask("POST", path, {}), _KEY)


def change_key(call: Call) -> None:
    """Change a key."""
    options = call.options
    body: dict[str, Any] = {"name": options.name} if options.name is not None else {}
    body |= {"expires": read_time(options.expires)} if options.expires else {}
    _change(call, f"/admin/v1/keys/{segment(options.id)}", body, _KEY)


def list_organisations(call: Call) -> None:
    """List organisations."""
    show_list(call, "/admin/v1/organisations", {}, ("id", "name", "created:time", "settings"))


def create_organisation(call: Call) -> None:
    """Make an organisation."""
    body = {"name": call.options.name, "settings": _chosen(call)}
    show(call, call.gateway.ask("POST", "/admin/v1/organisations", body), _ORGANISATION)


def change_organisation(call: Call) -> None:
    """Change an organisation."""
    id = call.gateway.organisation(call.options.organisation)
    body = {"name": call.options.name} if call.options.name else {}
    _change(call, f"/admin/v1/organisations/{segment(id)}", body, _ORGANISATION)


def list_projects(call: Call) -> None:
    """List projects."""
    columns = ("id", "name", "organisation", "created:time", "archived:time", "settings")
    show_list(call, "/admin/v1/projects", {"archived": call.options.archived or None}, columns)


def create_project(call: Call) -> None:
    """Make a project."""
    organisation = call.gateway.organisation(call.options.org)
    body = {"name": call.options.name, "organisation": organisation, "settings": _chosen(call)}
    show(call, call.gateway.ask("POST", "/admin/v1/projects", body), _PROJECT)


def change_project(call: Call) -> None:
    """Change a project."""
    body = {"name": call.options.name} if call.options.name else {}
    _change(call, _project(call), body, _PROJECT)


def archive_project(call: Call) -> None:
    """Archive a project or bring it back."""
    id = call.options.project
    if not id.startswith("proj_"):
        found = [one for one in call.gateway.pages("/admin/v1/projects", {"archived": True}) if one["name"] == id]
        if len(found) != 1:
            raise UsageError(f"There are {len(found)} projects {id!r}.", hint="Give the id of one.")
        id = found[0]["id"]
    body = {"archived": call.options.archived}
    show(call, call.gateway.ask("PATCH", f"/admin/v1/projects/{segment(id)}", body), _PROJECT)


def list_members(call: Call) -> None:
    """List members."""
    found = call.gateway.ask("GET", f"{_project(call)}/members")["data"]
    if call.options.json:
        print_json(found)
    else:
        print_table(found, ("user", "email", "name", "role"))


def add_member(call: Call) -> None:
    """Add a member."""
    path = f"{_project(call)}/members/{segment(call.gateway.user(call.options.user))}"
    show(call, call.gateway.ask("PUT", path, {}), ("user", "email", "role"))


def remove_member(call: Call) -> None:
    """Remove a member."""
    path = f"{_project(call)}/members/{segment(call.gateway.user(call.options.user))}"
    call.gateway.ask("DELETE", path)
    _done(call, "The membership has ended.")


def list_users(call: Call) -> None:
    """List users."""
    columns = ("id", "email", "name", "roles", "organisation", "active", "created:time")
    show_list(call, "/admin/v1/users", {}, columns)


def show_user(call: Call) -> None:
    """Show a user."""
    show(call, call.gateway.ask("GET", _user(call)), _USER)


def create_user(call: Call) -> None:
    """Make a user."""
    options = call.options
    body = {
        "email": options.email,
        "name": options.name,
        "organisation": call.gateway.organisation(options.org),
        "roles": options.role or ["member"],
        "projects": [call.gateway.project(one) for one in options.project],
    }
    show(call, call.gateway.ask("POST", "/admin/v1/users", body), _USER)


def change_user(call: Call) -> None:
    """Set roles, or whether a user is active."""
    options = call.options
    body = {"roles": options.roles} if "roles" in options else {"active": options.active}
    show(call, call.gateway.ask("PATCH", _user(call), body), _USER)


def identify_user(call: Call) -> None:
    """Record how a person was identified."""
    body = {name: getattr(call.options, name) for name in ("method", "level", "note")}
    show(call, call.gateway.ask("POST", f"{_user(call)}/identity", body), _USER)


def list_groups(call: Call) -> None:
    """List groups."""
    show_list(call, "/admin/v1/groups", {}, ("id", "name", "organisation", "grants", "members"))


def create_group(call: Call) -> None:
    """Make a group."""
    options = call.options
    projects = {call.gateway.project(one): "member" for one in options.project}
    grants = {"projects": projects, "roles": options.role}
    body = {"name": options.name, "organisation": call.gateway.organisation(options.org), "grants": grants}
    show(call, call.gateway.ask("POST", "/admin/v1/groups", body), _GROUP)


def delete_group(call: Call) -> None:
    """Delete a group."""
    call.gateway.ask("DELETE", f"/admin/v1/groups/{segment(call.options.group)}")
    _done(call, "The group is gone.")


def change_group_member(call: Call) -> None:
    """Put a user into a group, or take one out."""
    user = segment(call.gateway.user(call.options.user))
    call.gateway.ask(call.options.method, f"/admin/v1/groups/{segment(call.options.group)}/members/{user}")
    _done(call, "The user is in the group." if call.options.method == "PUT" else "The user is out of the group.")


def _project(call: Call) -> str:
    return f"/admin/v1/projects/{segment(call.gateway.project(call.options.project))}"


def _user(call: Call) -> str:
    return f"/admin/v1/users/{segment(call.gateway.user(call.options.user))}"


def _chosen(call: Call) -> dict[str, Any]:
    """Return the settings that the options state."""
    options = call.options
    names = ("requests_per_minute", "tokens_per_minute", "concurrent")
    limits: dict[str, Any] = {name: value for name in names if (value := getattr(options, name)) is not None}
    limits |= {"budget": {"monthly_usd": options.budget}} if options.budget is not None else {}
    chosen: dict[str, Any] = {"limits": limits} if limits else {}
    if getattr(options, "retention", None):
        chosen["retention"] = options.retention
    fallback = {}
    for one in getattr(options, "fallback", []):
        model, _, others = one.partition("=")
        if not model or not others:
            raise UsageError(f"--fallback {one} says not what is served in place of what.", hint="MODEL=OTHER,…")
        fallback[model] = others.split(",")
    return chosen | ({"fallback": fallback} if fallback else {})


def _change(call: Call, path: str, body: dict[str, Any], columns: tuple[str, ...]) -> None:
    """Change something; settings that are not stated stay as they are."""
    chosen = _chosen(call)
    if chosen or call.options.no_limits:
        settings = call.gateway.ask("GET", path)["settings"]
        limits = {} if call.options.no_limits else settings.pop("limits", None) or {}
        limits |= chosen.pop("limits", {})
        body = {**body, "settings": {**settings, "limits": limits or None, **chosen}}
    if not body:
        raise UsageError("Nothing is to be changed.", hint="--help shows what can be.")
    show(call, call.gateway.ask("PATCH", path, body), columns)


def _secret(call: Call, found: dict[str, Any]) -> None:
    if call.options.json:
        print_json(found)
        return
    print_fields(found["key"], ("id", "name", "organisation", "project", "user", "scopes", "expires:time"))
    print("The key, shown only now:")
    print(found["secret"])


def _done(call: Call, sentence: str) -> None:
    if call.options.json:
        print_json({})
    else:
        print(sentence)
