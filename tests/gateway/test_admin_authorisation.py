"""Who may do what to whose things: every route, every role, both tenants."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from administration import World

from lathe.gateway.admin.table import AUDIT_EXPORT, TABLE
from lathe.store.gateway.database import Database

CALLERS = ("operator", "reviewer", "auditor", "admin_a", "member_a", "admin_b", "member_b", "unscoped", "nobody")
WHY = {"why": "because"}
YES = {"verdict": "approve", "note": "fine"}
UPHELD = {"verdict": "uphold", "reason": "The target is somebody else's."}
AGREED = {"verdict": "approve", "reason": "Each of the decisions is right."}
OPEN = {"entries": [{"from": "2020-01-01"}]}
WORK = {"name": "w", "authority": "a" * 64, "expires": 9_000_000_000_000, "domains": ["example.org"]}

# A path names things of organisation A; {new_…} is made for each caller anew. The last columns are a key without the
# scope `admin` (a machine's, of A) and no key at all.
#                                                          operator reviewer auditor admin_a member_a admin_b member_b
ROWS: list[tuple[str, str, dict[str, Any] | None, str]] = [
    ("GET", "/v1/access/me", None, "                        200 200 200 200 200 200 200 200 401"),
    ("POST", "/v1/access/check", {"model": "mend"}, "       200 200 200 200 200 200 200 200 401"),
    ("GET", "/v1/access/applications", None, "              200 200 200 200 200 200 200 200 401"),
    ("POST", "/v1/access/applications", {"tier": "specialist", "why": "x", "subject": "project:{proj_a}"},
                                             "              201 404 404 201 201 404 404 201 401"),
    ("GET", "/v1/access/applications/{new_application}", None, "200 200 200 200 200 404 404 404 401"),
    ("POST", "/v1/access/applications/{new_application}/withdraw", None, "200 404 404 200 200 404 404 404 401"),
    ("GET", "/v1/access/entitlements", None, "              200 200 200 200 200 200 200 200 401"),
    ("GET", "/v1/receipts/{receipt_a}", None, "             200 404 200 200 200 404 404 404 401"),
    ("GET", "/admin/v1/organisations", None, "              200 200 200 200 200 200 200 403 401"),
    ("POST", "/admin/v1/organisations", {"name": "{name}"}, "201 403 403 403 403 403 403 403 401"),
    ("GET", "/admin/v1/organisations/{org_a}", None, "      200 200 200 200 200 404 404 403 401"),
    ("PATCH", "/admin/v1/organisations/{org_a}", {"name": "{name}"}, "200 403 403 403 403 403 403 403 401"),
    ("GET", "/admin/v1/projects", None, "                   200 200 200 200 200 200 200 403 401"),
    ("POST", "/admin/v1/projects", {"name": "{name}", "organisation": "{org_a}"},
                                   "                        201 403 403 201 403 404 403 403 401"),
    ("GET", "/admin/v1/projects/{proj_a}", None, "          200 200 200 200 200 404 404 403 401"),
    ("PATCH", "/admin/v1/projects/{new_project}", {"archived": True}, "200 403 403 200 403 404 403 403 401"),
    ("GET", "/admin/v1/projects/{proj_a}/members", None, "  200 200 200 200 200 404 404 403 401"),
    ("PUT", "/admin/v1/projects/{proj_a}/members/{user_member_a}", {}, "200 403 403 200 403 404 403 403 401"),
    ("DELETE", "/admin/v1/projects/{proj_a}/members/{new_member}", None, "200 403 403 200 403 404 403 403 401"),
    ("GET", "/admin/v1/users", None, "                      200 200 200 200 200 200 200 403 401"),
    ("POST", "/admin/v1/users", {"email": "{name}@example.org", "organisation": "{org_a}"},
                                 "                          201 403 403 201 403 404 403 403 401"),
    ("GET", "/admin/v1/users/{user_member_a}", None, "      200 200 200 200 200 404 404 403 401"),
    ("PATCH", "/admin/v1/users/{new_user}", {"active": False}, "200 403 403 200 403 404 403 403 401"),
    ("POST", "/admin/v1/users/{new_user}/identity", {"note": "seen"}, "200 200 403 403 403 403 403 403 401"),
    ("GET", "/admin/v1/groups", None, "                     200 403 200 200 403 200 403 403 401"),
    ("POST", "/admin/v1/groups", {"name": "{name}", "organisation": "{org_a}"}, "201 403 403 201 403 404 403 403 401"),
    ("GET", "/admin/v1/groups/{group_a}", None, "           200 403 200 200 403 404 403 403 401"),
    ("PATCH", "/admin/v1/groups/{group_a}", {"name": "{name}"}, "200 403 403 200 403 404 403 403 401"),
    ("DELETE", "/admin/v1/groups/{new_group}", None, "      200 403 403 200 403 404 403 403 401"),
    ("PUT", "/admin/v1/groups/{group_a}/members/{user_member_a}", None, "200 403 403 200 403 404 403 403 401"),
    ("DELETE", "/admin/v1/groups/{group_a}/members/{new_group_member}", None, "200 403 403 200 403 404 403 403 401"),
    ("GET", "/admin/v1/keys", None, "                       200 200 200 200 200 200 200 403 401"),
    ("POST", "/admin/v1/keys", {"owner": "machine", "organisation": "{org_a}", "project": "{proj_a}"},
                                "                           201 403 403 201 403 404 403 403 401"),
    ("GET", "/admin/v1/keys/{key_member_a}", None, "        200 404 200 200 200 404 404 403 401"),
    ("PATCH", "/admin/v1/keys/{new_key}", {"name": "x"}, "  200 403 403 200 403 404 403 403 401"),
    ("POST", "/admin/v1/keys/{new_key}/rotate", {}, "       201 404 404 201 404 404 404 403 401"),
    ("POST", "/admin/v1/keys/{new_own_key}/revoke", None, " 200 404 404 200 200 404 404 403 401"),
    ("POST", "/admin/v1/keys/{new_own_key}/settle", None, " 200 404 404 200 200 404 404 403 401"),
    ("GET", "/admin/v1/applications", None, "               200 200 200 200 200 200 200 403 401"),
    ("GET", "/admin/v1/applications/{new_application}", None, "200 200 200 200 200 404 404 403 401"),
    ("POST", "/admin/v1/applications/{new_application}/review", YES, "200 200 403 403 403 403 403 403 401"),
    ("GET", "/admin/v1/entitlements", None, "               200 200 200 200 200 200 200 403 401"),
    ("GET", "/admin/v1/entitlements/{entitlement_a}", None, "200 200 200 200 200 404 404 403 401"),
    ("POST", "/admin/v1/entitlements/{new_entitlement}/revoke", WHY, "200 200 403 200 403 404 403 403 401"),
    ("GET", "/admin/v1/engagements", None, "                200 200 200 200 200 200 200 403 401"),
    ("POST", "/admin/v1/engagements", {**WORK, "project": "{proj_a}"}, "201 201 403 201 403 404 403 403 401"),
    ("GET", "/admin/v1/engagements/{engagement_a}", None, " 200 200 200 200 200 404 404 403 401"),
    ("POST", "/admin/v1/engagements/{new_engagement}/revoke", WHY, "200 200 403 200 403 404 403 403 401"),
    ("GET", "/admin/v1/rollouts", None, "                   200 200 200 403 403 403 403 403 401"),
    ("POST", "/admin/v1/rollouts", {"model": "m", "schedule": OPEN, "why": "x"}, "201 201 403 403 403 403 403 403 401"),
    ("POST", "/admin/v1/rollouts/rehearse", {"model": "m", "schedule": OPEN, "day": "2026-11-27"},
                                             "              200 200 200 403 403 403 403 403 401"),
    ("GET", "/admin/v1/rollouts/{new_rollout}", None, "     200 200 200 403 403 403 403 403 401"),
    ("POST", "/admin/v1/rollouts/{new_rollout}/review", YES, "200 200 403 403 403 403 403 403 401"),
    ("GET", "/v1/decisions", None, "                        200 200 200 200 200 200 200 200 401"),
    ("GET", "/v1/decisions/{new_decision}", None, "         200 200 200 404 200 404 404 404 401"),
    ("GET", "/v1/decisions/{measure_a}", None, "            200 200 200 404 200 404 404 404 401"),
    ("POST", "/v1/decisions/{new_decision}/appeal", {}, "   404 404 404 404 201 404 404 404 401"),
    ("POST", "/v1/decisions/{new_machine_decision}/appeal", {}, "404 404 404 201 201 404 404 201 401"),
    ("GET", "/v1/appeals", None, "                          200 200 200 200 200 200 200 200 401"),
    ("GET", "/v1/appeals/{new_appeal}", None, "             200 200 200 404 200 404 404 404 401"),
    ("POST", "/v1/appeals/{new_appeal}/withdraw", None, "   404 404 404 404 200 404 404 404 401"),
    ("GET", "/v1/notices", None, "                          200 200 200 200 200 200 200 200 401"),
    ("POST", "/v1/notices/{notice_a}/read", None, "         404 404 404 404 200 404 404 404 401"),
    ("GET", "/admin/v1/appeals", None, "                    200 200 200 200 200 200 200 403 401"),
    ("GET", "/admin/v1/appeals/{new_appeal}", None, "       200 200 200 404 200 404 404 403 401"),
    ("POST", "/admin/v1/appeals/{new_appeal}/take", None, " 200 200 403 403 403 403 403 403 401"),
    ("POST", "/admin/v1/appeals/{new_appeal}/decide", UPHELD, "200 200 403 403 403 403 403 403 401"),
    ("GET", "/admin/v1/appeals/{reversed_a}/case", None, "  200 200 200 403 403 403 403 403 401"),
    ("GET", "/admin/v1/accounts", None, "                   200 200 200 403 403 403 403 403 401"),
    ("GET", "/admin/v1/accounts/{measure_a}", None, "       200 200 200 403 403 403 403 403 401"),
    ("POST", "/admin/v1/accounts/{new_proposal}/review", AGREED, "200 200 403 403 403 403 403 403 401"),
    ("POST", "/admin/v1/accounts/{new_measure}/lift", {"reason": "The score has faded."},
                                                  "         200 200 403 403 403 403 403 403 401"),
    ("GET", "/admin/v1/requests", None, "                   200 200 200 200 200 200 200 403 401"),
    ("GET", "/admin/v1/usage", None, "                      200 200 200 200 200 200 200 403 401"),
    ("GET", "/admin/v1/replicas", None, "                   200 200 200 403 403 403 403 403 401"),
    ("GET", "/admin/v1/audit", None, "                      200 403 200 403 403 403 403 403 401"),
    ("GET", AUDIT_EXPORT, None, "                           200 403 200 403 403 403 403 403 401"),
]  # fmt: skip


async def test_every_route_answers_every_role_as_the_table_says(database: Database, tmp_path: Path) -> None:
    world = await World.make(database, tmp_path)
    await world.furnish()
    wrong = []
    numbers = itertools.count()
    for method, path, body, expected in ROWS:
        for caller, status in zip(CALLERS, expected.split(), strict=True):
            ids = {**world.ids, "name": f"n{next(numbers)}"}
            for name in re.findall(r"\{(new_\w+)\}", path):
                ids[name] = await world.fresh(name.removeprefix("new_"))
            said = await world.ask(caller, method, _filled(path, ids), _filled(body, ids))
            if said.status != int(status):
                wrong.append(f"{caller}: {method} {path}: {said.status}, not {status}: {said.body.decode()[:200]}")
            if caller.endswith("_b"):
                seen = [name for name, id in world.of_a() if id in said.body.decode()]
                if seen:
                    wrong.append(f"{caller}: {method} {path} shows {seen}")
    assert not wrong, "\n".join(wrong)


def test_the_table_above_has_every_route() -> None:
    there = {(entry.method, re.sub(r"\{\w+\}", "{}", entry.path)) for entry in TABLE} | {("GET", AUDIT_EXPORT)}
    assert {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path, _, _ in ROWS} == there


def _filled(template: Any, ids: dict[str, str]) -> Any:
    if isinstance(template, str):
        return re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], template)
    if isinstance(template, dict):
        return {key: _filled(value, ids) for key, value in template.items()}
    return template
