"""Every route of the console with the roles that may take it: one table, which a test walks.

Roles are those of the operation that the page is about, so that the console and the JSON API never differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from lathe.gateway.admin import accounts, appeals, live, rollouts
from lathe.gateway.admin import applications as trust
from lathe.gateway.admin import decisions as judged
from lathe.gateway.admin import entitlements as held
from lathe.gateway.admin import keys as key_operations
from lathe.gateway.admin import organisations as tenants
from lathe.gateway.admin import people as members
from lathe.gateway.admin import records as kept
from lathe.gateway.admin.desk import ANYONE, Operation
from lathe.gateway.console import (
    account,
    applications,
    decisions,
    entitlements,
    keys,
    models,
    organisations,
    overview,
    people,
    records,
    sign_in,
)
from lathe.gateway.console.gate import FILE_HEADERS, Handler, Visit, gated
from lathe.gateway.console.render import STATIC
from lathe.gateway.identity.addresses import send_address_link
from lathe.gateway.identity.entrance import Entrance
from lathe.gateway.identity.invitations import invite_user
from lathe.gateway.identity.proofs import bring_proof
from lathe.gateway.identity.site import Refused

PREFIX = "/console"


class Page(NamedTuple):
    """A route: `roles` are those of which one is needed, None where nobody needs to have signed in."""

    method: str
    path: str
    handler: Handler
    roles: frozenset[str] | None


def _open(method: str, path: str, handler: Handler) -> Page:
    return Page(method, path, handler, None)


def _own(method: str, path: str, handler: Handler) -> Page:
    return Page(method, path, handler, frozenset({ANYONE}))


def _show(path: str, handler: Handler, operation: Operation[..., Any]) -> Page:
    return Page("GET", path, handler, operation.roles)


def _act(path: str, handler: Handler, operation: Operation[..., Any]) -> Page:
    return Page("POST", path, handler, operation.roles)


PAGES: tuple[Page, ...] = (
    _open("GET", "/sign-in", sign_in.page),
    _open("POST", "/sign-in/passkey/options", sign_in.passkey_options),
    _open("POST", "/sign-in/passkey", sign_in.passkey_sign_in),
    _open("GET", "/sign-in/oidc/{provider}", sign_in.oidc_start),
    _open("GET", "/sign-in/oidc/{provider}/back", sign_in.oidc_back),
    _open("GET", "/invitation", sign_in.invitation),
    _open("POST", "/invitation/options", sign_in.invitation_options),
    _open("POST", "/invitation/passkey", sign_in.invitation_accept),
    _open("GET", "/address", people.address),
    _open("POST", "/address", people.address_confirm),
    _own("GET", "", overview.page),
    _own("POST", "/sign-out", sign_in.sign_out),
    _own("GET", "/account", account.page),
    _own("GET", "/account/link/{provider}", sign_in.oidc_link),
    _own("POST", "/account/passkeys/options", account.passkey_options),
    _own("POST", "/account/passkeys", account.passkey_enrol),
    _own("POST", "/account/passkeys/name", account.passkey_rename),
    _own("POST", "/account/passkeys/remove", account.passkey_remove),
    _own("POST", "/account/sessions/end", account.sessions_end),
    _show("/applications", applications.index, trust.list_applications),
    _act("/applications", applications.create, trust.submit_application),
    _show("/applications/new", applications.form, trust.submit_application),
    _show("/applications/{application}", applications.one, trust.show_application),
    _act("/applications/{application}/review", applications.review, trust.review_application),
    _act("/applications/{application}/withdraw", applications.withdraw, trust.withdraw_application),
    _show("/entitlements", entitlements.index, held.list_entitlements),
    _show("/entitlements/{entitlement}", entitlements.one, held.show_entitlement),
    _act("/entitlements/{entitlement}/revoke", entitlements.revoke, held.revoke_entitlement),
    _show("/engagements", entitlements.work_index, held.list_engagements),
    _act("/engagements", entitlements.work_create, held.create_engagement),
    _show("/engagements/new", entitlements.work_form, held.create_engagement),
    _show("/engagements/{engagement}", entitlements.work, held.show_engagement),
    _act("/engagements/{engagement}/revoke", entitlements.work_revoke, held.revoke_engagement),
    _show("/keys", keys.index, key_operations.list_keys),
    _act("/keys", keys.create, key_operations.create_key),
    _show("/keys/new", keys.form, key_operations.create_key),
    _show("/keys/{key}", keys.one, key_operations.show_key),
    _act("/keys/{key}", keys.change, key_operations.change_key),
    _act("/keys/{key}/rotate", keys.rotate, key_operations.rotate_key),
    _act("/keys/{key}/revoke", keys.revoke, key_operations.revoke_key),
    _show("/spend", keys.spend, kept.show_usage),
    _show("/models", models.index, live.show_access),
    _show("/models/schedule", models.model, rollouts.list_rollouts),
    _show("/models/propose", models.form, rollouts.propose_rollout),
    _act("/models/propose", models.propose, rollouts.propose_rollout),
    _show("/rollouts/{version}", models.version, rollouts.show_rollout),
    _act("/rollouts/{version}/rehearse", models.rehearse, rollouts.rehearse_rollout),
    _act("/rollouts/{version}/review", models.review, rollouts.review_rollout),
    _show("/receipts", records.receipts, kept.list_requests),
    _show("/receipts/{receipt}", records.receipt, kept.show_receipt),
    _show("/decisions", decisions.index, judged.list_decisions),
    _show("/decisions/{decision}", decisions.one, judged.show_decision),
    _act("/decisions/{decision}/appeal", decisions.appeal, appeals.make_appeal),
    _act("/notices/{notice}/read", decisions.read, judged.read_notice),
    _show("/appeals", decisions.queue, appeals.list_appeals),
    _show("/appeals/{appeal}", decisions.appeal_one, appeals.show_appeal),
    _act("/appeals/{appeal}/take", decisions.take, appeals.take_appeal),
    _act("/appeals/{appeal}/decide", decisions.decide, appeals.decide_appeal),
    _act("/appeals/{appeal}/withdraw", decisions.withdraw, appeals.withdraw_appeal),
    _show("/accounts", decisions.account_index, accounts.list_accounts),
    _show("/accounts/{proposal}", decisions.account, accounts.show_account),
    _act("/accounts/{proposal}/review", decisions.account_review, accounts.review_account),
    _act("/accounts/{proposal}/lift", decisions.account_lift, accounts.lift_account),
    _show("/audit", records.audit_index, kept.list_audit),
    _act("/audit", records.audit_verify, records.verify_audit),
    _show("/people", people.index, members.list_users),
    _act("/people", people.create, members.create_user),
    _show("/people/new", people.form, members.create_user),
    _show("/people/{user}", people.one, members.show_user),
    _act("/people/{user}", people.change, members.change_user),
    _act("/people/{user}/invite", people.invite, invite_user),
    _act("/people/{user}/proof", people.prove, bring_proof),
    _act("/people/{user}/address", people.ask_address, send_address_link),
    _act("/groups", people.group_create, members.create_group),
    _show("/groups/{group}", people.group, members.show_group),
    _act("/groups/{group}", people.group_change, members.change_group),
    _act("/groups/{group}/members", people.group_member, members.put_group_member),
    _act("/groups/{group}/delete", people.group_delete, members.delete_group),
    _show("/organisations", organisations.index, tenants.list_organisations),
    _act("/organisations", organisations.create, tenants.create_organisation),
    _show("/organisations/{organisation}", organisations.one, tenants.show_organisation),
    _act("/organisations/{organisation}", organisations.change, tenants.change_organisation),
    _act("/organisations/{organisation}/projects", organisations.project_create, tenants.create_project),
    _act("/organisations/{organisation}/proof", people.prove_organisation, bring_proof),
    _show("/projects/{project}", organisations.project, tenants.show_project),
    _act("/projects/{project}", organisations.project_change, tenants.change_project),
)


class _Files(StaticFiles):
    """Style, script and picture, which browsers may keep for an hour."""

    def file_response(self, *args: Any, **more: Any) -> Response:
        """Return a file with what a browser may do with it."""
        response = super().file_response(*args, **more)
        response.headers.update(FILE_HEADERS)
        return response


def routes(entrance: Entrance, pages: Iterable[Page] = PAGES) -> list[BaseRoute]:
    """Return the routes of the console."""
    made: list[BaseRoute] = [Mount(f"{PREFIX}/static", _Files(directory=STATIC))]
    for page in pages:
        endpoint = gated(entrance, page.handler, page.roles)
        made.append(Route(PREFIX + page.path, endpoint, methods=[page.method]))
    made.append(Route(PREFIX + "/{rest:path}", gated(entrance, _nothing, None), methods=["GET", "POST"]))
    return made


async def _nothing(visit: Visit) -> Response:
    raise Refused("There is no such page.", code="not_found", status=404)
