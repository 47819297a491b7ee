"""What this SCIM service says of itself: its resource types, their attributes and what it can do (RFC 7643)."""

from __future__ import annotations

from typing import Any

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
MOST_RESULTS = 200


def _attribute(name: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": kind,
        "multiValued": False,
        "required": False,
        "mutability": "readWrite",
        "returned": "default",
        **({"caseExact": False, "uniqueness": "none"} if kind == "string" else {}),
        **more,
    }


_USER_ATTRIBUTES = [
    _attribute("userName", required=True, uniqueness="server"),
    _attribute("displayName"),
    _attribute(
        "emails",
        "complex",
        multiValued=True,
        required=True,
        subAttributes=[_attribute("value", required=True), _attribute("type"), _attribute("primary", "boolean")],
    ),
    _attribute("active", "boolean"),
    _attribute(
        "groups",
        "complex",
        multiValued=True,
        mutability="readOnly",
        subAttributes=[_attribute("value", mutability="readOnly"), _attribute("display", mutability="readOnly")],
    ),
]
_GROUP_ATTRIBUTES = [
    _attribute("displayName", required=True, uniqueness="none"),
    _attribute(
        "members",
        "complex",
        multiValued=True,
        subAttributes=[
            _attribute("value", mutability="immutable"),
            _attribute("$ref", "reference", referenceTypes=["User"], mutability="immutable"),
            _attribute("display", mutability="readOnly"),
            _attribute("type", mutability="immutable", canonicalValues=["User"]),
        ],
    ),
]


def schemas(base: str) -> list[dict[str, Any]]:
    """Return the schemas of the resources; `base` is the address of the service."""
    kind = "urn:ietf:params:scim:schemas:core:2.0:Schema"
    return [
        {
            "schemas": [kind],
            "id": id,
            "name": name,
            "description": description,
            "attributes": attributes,
            "meta": {"resourceType": "Schema", "location": f"{base}/Schemas/{id}"},
        }
        for id, name, description, attributes in (
            (USER, "User", "A person of the organisation", _USER_ATTRIBUTES),
            (GROUP, "Group", "People who get the same projects and roles", _GROUP_ATTRIBUTES),
        )
    ]


def resource_types(base: str) -> list[dict[str, Any]]:
    """Return the types of resources."""
    return [
        {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": name,
            "name": name,
            "endpoint": f"/{name}s",
            "schema": schema,
            "meta": {"resourceType": "ResourceType", "location": f"{base}/ResourceTypes/{name}"},
        }
        for name, schema in (("User", USER), ("Group", GROUP))
    ]


def service_provider(base: str) -> dict[str, Any]:
    """Return what the service can do."""
    return {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": True},
        "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": MOST_RESULTS},
        "changePassword": {"supported": False},
        "sort": {"supported": False},
        "etag": {"supported": False},
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "Key",
                "description": "A key of the organisation with the scope scim, as a bearer token",
                "primary": True,
            }
        ],
        "meta": {"resourceType": "ServiceProviderConfig", "location": f"{base}/ServiceProviderConfig"},
    }
