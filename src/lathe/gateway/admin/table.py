"""Every route of the administration: method, path, what it does. Who may do it is said by the operation."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias, get_type_hints

import msgspec

from lathe.gateway.admin import (
    accounts,
    appeals,
    applications,
    decisions,
    entitlements,
    keys,
    live,
    organisations,
    people,
    records,
    rollouts,
)
from lathe.gateway.admin.desk import Operation

Method: TypeAlias = Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
ADMIN = "/admin/v1"


class Entry(NamedTuple):
    """A route. Parts of `path` in braces are parameters of the operation; `status` is that of success."""

    method: Method
    path: str
    operation: Operation[Any, Any]
    status: int = 200

    @property
    def asked(self) -> type[msgspec.Struct] | None:
        """What is asked, in the query of a GET and the body of all others; None where nothing is."""
        return get_type_hints(self.operation.act).get("asked")

    @property
    def answer(self) -> Any:
        """What is answered."""
        return get_type_hints(self.operation.act)["return"]

    @property
    def parameters(self) -> list[str]:
        """The names of the parts of the path that say what it is about."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]

    @property
    def needs_scope(self) -> bool:
        """Whether a key needs the scope `admin`."""
        return self.path.startswith(ADMIN)


def _admin(method: Method, path: str, operation: Operation[Any, Any], status: int = 200) -> Entry:
    return Entry(method, ADMIN + path, operation, status)


TABLE: tuple[Entry, ...] = (
    Entry("GET", "/v1/access/me", live.show_access),
    Entry("POST", "/v1/access/check", live.check_access),
    Entry("GET", "/v1/access/applications", applications.list_applications),
    Entry("POST", "/v1/access/applications", applications.submit_application, 201),
    Entry("GET", "/v1/access/applications/{application}", applications.show_application),
    Entry("POST", "/v1/access/applications/{application}/withdraw", applications.withdraw_application),
    Entry("GET", "/v1/access/entitlements", entitlements.list_entitlements),
    Entry("GET", "/v1/receipts/{receipt}", records.show_receipt),
    Entry("GET", "/v1/decisions", decisions.list_decisions),
    Entry("GET", "/v1/decisions/{decision}", decisions.show_decision),
    Entry("POST", "/v1/decisions/{decision}/appeal", appeals.make_appeal, 201),
    Entry("GET", "/v1/appeals", appeals.list_appeals),
    Entry("GET", "/v1/appeals/{appeal}", appeals.show_appeal),
    Entry("POST", "/v1/appeals/{appeal}/withdraw", appeals.withdraw_appeal),
    Entry("GET", "/v1/notices", decisions.list_notices),
    Entry("POST", "/v1/notices/{notice}/read", decisions.read_notice),
    _admin("GET", "/organisations", organisations.list_organisations),
    _admin("POST", "/organisations", organisations.create_organisation, 201),
    _admin("GET", "/organisations/{organisation}", organisations.show_organisation),
    _admin("PATCH", "/organisations/{organisation}", organisations.change_organisation),
    _admin("GET", "/projects", organisations.list_projects),
    _admin("POST", "/projects", organisations.create_project, 201),
    _admin("GET", "/projects/{project}", organisations.show_project),
    _admin("PATCH", "/projects/{project}", organisations.change_project),
    _admin("GET", "/projects/{project}/members", organisations.list_members),
    _admin("PUT", "/projects/{project}/members/{user}", organisations.put_member),
    _admin("DELETE", "/projects/{project}/members/{user}", organisations.remove_member),
    _admin("GET", "/users", people.list_users),
    _admin("POST", "/users", people.create_user, 201),
    _admin("GET", "/users/{user}", people.show_user),
    _admin("PATCH", "/users/{user}", people.change_user),
    _admin("POST", "/users/{user}/identity", people.identify_user),
    _admin("GET", "/groups", people.list_groups),
    _admin("POST", "/groups", people.create_group, 201),
    _admin("GET", "/groups/{group}", people.show_group),
    _admin("PATCH", "/groups/{group}", people.change_group),
    _admin("DELETE", "/groups/{group}", people.delete_group),
    _admin("PUT", "/groups/{group}/members/{user}", people.put_group_member),
    _admin("DELETE", "/groups/{group}/members/{user}", people.remove_group_member),
    _admin("GET", "/keys", keys.list_keys),
    _admin("POST", "/keys", keys.create_key, 201),
    _admin("GET", "/keys/{key}", keys.show_key),
    _admin("PATCH", "/keys/{key}", keys.change_key),
    _admin("POST", "/keys/{key}/rotate", keys.rotate_key, 201),
    _admin("POST", "/keys/{key}/revoke", keys.revoke_key),
    _admin("POST", "/keys/{key}/settle", keys.settle_key),
    _admin("GET", "/applications", applications.list_applications),
    _admin("GET", "/applications/{application}", applications.show_application),
    _admin("POST", "/applications/{application}/review", applications.review_application),
    _admin("GET", "/entitlements", entitlements.list_entitlements),
    _admin("GET", "/entitlements/{entitlement}", entitlements.show_entitlement),
    _admin("POST", "/entitlements/{entitlement}/revoke", entitlements.revoke_entitlement),
    _admin("GET", "/engagements", entitlements.list_engagements),
    _admin("POST", "/engagements", entitlements.create_engagement, 201),
    _admin("GET", "/engagements/{engagement}", entitlements.show_engagement),
    _admin("POST", "/engagements/{engagement}/revoke", entitlements.revoke_engagement),
    _admin("GET", "/rollouts", rollouts.list_rollouts),
    _admin("POST", "/rollouts", rollouts.propose_rollout, 201),
    _admin("POST", "/rollouts/rehearse", rollouts.rehearse_rollout),
    _admin("GET", "/rollouts/{version}", rollouts.show_rollout),
    _admin("POST", "/rollouts/{version}/review", rollouts.review_rollout),
    _admin("GET", "/appeals", appeals.list_appeals),
    _admin("GET", "/appeals/{appeal}", appeals.show_appeal),
    _admin("POST", "/appeals/{appeal}/take", appeals.take_appeal),
    _admin("POST", "/appeals/{appeal}/decide", appeals.decide_appeal),
    _admin("GET", "/appeals/{appeal}/case", appeals.show_case),
    _admin("GET", "/accounts", accounts.list_accounts),
    _admin("GET", "/accounts/{proposal}", accounts.show_account),
    _admin("POST", "/accounts/{proposal}/review", accounts.review_account),
    _admin("POST", "/accounts/{proposal}/lift", accounts.lift_account),
    _admin("GET", "/requests", records.list_requests),
    _admin("GET", "/usage", records.show_usage),
    _admin("GET", "/replicas", records.list_replicas),
    _admin("GET", "/audit", records.list_audit),
)
AUDIT_EXPORT = f"{ADMIN}/audit/export"
PUBLIC_KEYS = "/.well-known/jwks.json"
REPORT = "/guard/report"
