"""JSON Schemas that strangers wrote, made acceptable to every model wire.

The wires refuse a whole request for one bad tool: they want an object at the top without `anyOf`, `oneOf`,
`allOf`, `enum` or `not` beside it, `items` in every array, and property names of a limited alphabet; and
smaller servers (llama.cpp, vLLM) don't follow `$ref`. What can't be said that way is left open: the server
checks its arguments itself.
"""

from __future__ import annotations

import re
from typing import Any

_DROPPED = ("$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "examples", "x-mcp-header")
_SUBSCHEMAS = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")
_SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SUBSCHEMA_MAPS = ("properties", "patternProperties", "dependentSchemas")
_PROPERTY_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_DEPTH_LIMIT = 24
_NODE_LIMIT = 4_000


def for_models(schema: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return `schema` as an object schema that every wire takes, and sentences on what had to be left out."""
    root = _Cleaner(schema).clean(schema, 0, ())
    properties, required = root.pop("properties", {}), root.pop("required", [])
    for key in ("anyOf", "oneOf", "allOf"):
        for branch in root.pop(key, ()):
            properties = {**branch.get("properties", {}), **properties}
            if key == "allOf":
                required = [*required, *branch.get("required", ())]
    for key in ("enum", "not", "if", "then", "else", "items", "prefixItems"):
        root.pop(key, None)
    kept = {name: value for name, value in properties.items() if _PROPERTY_NAME.fullmatch(name)}
    root |= {"type": "object", "properties": kept}
    if wanted := [name for name in dict.fromkeys(required) if name in kept]:
        root["required"] = wanted
    refused = ", ".join(repr(name) for name in properties if name not in kept)
    return root, (f"Left out of the parameters for their names: {refused}.",) if refused else ()


class _Cleaner:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._nodes = 0

    def clean(self, schema: Any, depth: int, seen: tuple[str, ...]) -> dict[str, Any]:
        """Return `schema` without references; `seen` holds those being followed, so that a cycle ends open."""
        self._nodes += 1
        if not isinstance(schema, dict) or depth > _DEPTH_LIMIT or self._nodes > _NODE_LIMIT:
            return {}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            if reference in seen:
                return self.clean(beside, depth + 1, seen)
            target = self._resolve(reference)
            merged = {**target, **beside} if isinstance(target, dict) else beside
            return self.clean(merged, depth + 1, (*seen, reference))
        result = {str(key): value for key, value in schema.items() if key not in _DROPPED and _is_sound(key, value)}
        for key in _SUBSCHEMAS:
            if isinstance(result.get(key), dict):
                result[key] = self.clean(result[key], depth + 1, seen)
        for key in _SUBSCHEMA_LISTS:
            if key in result:
                result[key] = [self.clean(part, depth + 1, seen) for part in result[key]]
        for key in _SUBSCHEMA_MAPS:
            if key in result:
                result[key] = {str(name): self.clean(part, depth + 1, seen) for name, part in result[key].items()}
        return _plain(result)

    def _resolve(self, reference: str) -> Any:
        """Return what a reference inside this document points at; None where it leads out of it or nowhere."""
        if not reference.startswith("#"):
            return None
        node = self._root
        for step in reference[1:].split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, dict) or key not in node:
                return None
            node = node[key]
        return node


def _is_sound(key: str, value: Any) -> bool:
    """Tell whether a keyword's value is of the kind that JSON Schema asks for; the others are dropped."""
    match key:
        case "$ref" | "$dynamicRef":
            return False
        case "type":
            return isinstance(value, str) or _is_texts(value)
        case "required":
            return isinstance(value, list) and all(isinstance(name, str) for name in value)
        case "enum":
            return isinstance(value, list) and bool(value)
        case _ if key in _SUBSCHEMA_LISTS:
            return isinstance(value, list) and bool(value)
        case _ if key in _SUBSCHEMA_MAPS:
            return isinstance(value, dict)
    return True


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    if "const" in schema and "enum" not in schema:
        schema["enum"] = [schema.pop("const")]
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if "array" in kinds and not isinstance(schema.get("items"), dict):
        schema["items"] = {}
    if "object" in kinds and not isinstance(schema.get("properties"), dict):
        schema["properties"] = {}
    return schema
