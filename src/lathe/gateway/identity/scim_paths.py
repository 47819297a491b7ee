"""Filters, paths and PATCH of SCIM 2.0 (RFC 7644, sections 3.4.2.2 and 3.5.2), on resources as plain JSON."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_TERM = re.compile(
    r'\s*([A-Za-z$][\w$.:-]*)\s+(eq|pr)(?:\s+("(?:[^"\\]|\\.)*"|true|false|null|-?\d+))?\s*', re.IGNORECASE
)
_PATH = re.compile(
    r"(?:(?P<urn>urn:[\w.:-]+):)?(?P<name>[A-Za-z$][\w$-]*)(?:\[(?P<filter>.*)\])?(?:\.(?P<sub>[A-Za-z$][\w$-]*))?"
)
_LONGEST = 2_000
_MOST_OPERATIONS = 1_000
_EXTENSION = "urn:ietf:params:scim:schemas:extension:"


class ScimError(Exception):
    """An answer that says no: `status` is HTTP's, `kind` the RFC's `scimType` ("" for none)."""

    def __init__(self, status: int, detail: str, kind: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind


class Term(NamedTuple):
    """`attribute eq value`; the attribute is in lower case. Without a value, the attribute must be there (`pr`)."""

    attribute: str
    value: Any
    present: bool = False


def parse_filter(text: str) -> list[Term]:
    """Return the terms of a filter, all of which must hold: `eq` and `pr`, joined by `and`; raise `ScimError`."""
    terms: list[Term] = []
    at = 0
    while len(text) <= _LONGEST:
        found = _TERM.match(text, at)
        if found is None:
            break
        name, operator, literal = found[1].rpartition(":")[2].lower(), found[2].lower(), found[3]
        if (operator == "pr") != (literal is None):
            break
        terms.append(Term(name, _literal(literal), operator == "pr"))
        at = found.end()
        if at == len(text):
            return terms
        joint = re.compile(r"and\s", re.IGNORECASE).match(text, at)
        if joint is None:
            break
        at = joint.end()
    raise ScimError(400, "Filters are ATTRIBUTE eq VALUE and ATTRIBUTE pr, joined by `and`.", "invalidFilter")


def _literal(text: str | None) -> Any:
    if text is None:
        return None
    from lathe.protocol.codec import DecodeError, decode_json

    try:
        return decode_json(text if text[0] == '"' else text.lower())
    except DecodeError:
        raise ScimError(400, f"{text[:40]} is no value.", "invalidFilter") from None


def matches(element: Any, terms: list[Term]) -> bool:
    """Return whether an element of a list meets every term; strings are compared without regard to case."""
    fields = (
        {name.lower(): value for name, value in element.items()} if isinstance(element, dict) else {"value": element}
    )
    return all(
        fields.get(term.attribute) is not None if term.present else _same(fields.get(term.attribute), term.value)
        for term in terms
    )


def _same(held: Any, wanted: Any) -> bool:
    if isinstance(held, str) and isinstance(wanted, str):
        return held.lower() == wanted.lower()
    return bool(held == wanted) and isinstance(held, bool) == isinstance(wanted, bool)


def patch(resource: dict[str, Any], document: Any) -> None:
    """Do the operations of a PatchOp message to `resource`; raise `ScimError`.

    Takes what Entra ID and Okta send, too: operations in capitals, dotted names in a value without a path, and
    `remove` with the elements to remove as its value.
    """
    operations = get(document, "Operations") if isinstance(document, dict) else None
    if not isinstance(operations, list) or not operations or len(operations) > _MOST_OPERATIONS:
        raise ScimError(400, "A PATCH has a list of Operations.", "invalidSyntax")
    for operation in operations:
        verb = str(get(operation, "op") or "").lower() if isinstance(operation, dict) else ""
        if verb not in ("add", "replace", "remove"):
            raise ScimError(400, "An operation is add, replace or remove.", "invalidSyntax")
        path, value = get(operation, "path"), get(operation, "value")
        if verb != "remove" and "value" not in {name.lower() for name in operation}:
            raise ScimError(400, f"{verb} needs a value.", "invalidValue")
        if path is None:
            if verb == "remove":
                raise ScimError(400, "remove needs a path.", "noTarget")
            if not isinstance(value, dict):
                raise ScimError(400, "Without a path the value is an object.", "invalidValue")
            for name, one in value.items():
                _apply(resource, verb, name, one)
        elif not isinstance(path, str) or len(path) > _LONGEST:
            raise ScimError(400, "A path is a string.", "invalidPath")
        else:
            _apply(resource, verb, path, value)


def _apply(resource: dict[str, Any], verb: str, path: str, value: Any) -> None:
    if path.startswith(_EXTENSION):
        return  # extensions are taken and not kept
    found = _PATH.fullmatch(path.strip())
    if found is None:
        raise ScimError(400, f"{path[:60]!r} is no path.", "invalidPath")
    name, sub = key_of(resource, found["name"]), found["sub"]
    if found["filter"] is not None:
        elements = resource.get(name)
        held = elements if isinstance(elements, list) else []
        resource[name] = _with_elements(held, verb, parse_filter(found["filter"]), sub, value)
    elif sub is not None:
        holder = resource.setdefault(name, {})
        if not isinstance(holder, dict):
            raise ScimError(400, f"{name} has no {sub}.", "invalidPath")
        _set(holder, verb, key_of(holder, sub), value)
    else:
        _set(resource, verb, name, value)


def _with_elements(held: list[Any], verb: str, terms: list[Term], sub: str | None, value: Any) -> list[Any]:
    """Return a list after an operation on those of its elements that meet `terms`, or on the `sub` of each."""
    chosen = [element for element in held if matches(element, terms)]
    if verb == "remove" and sub is None:
        return [element for element in held if element not in chosen]
    if not chosen and verb != "remove":  # Entra ID fills a list so that is still empty
        if any(term.present for term in terms):
            raise ScimError(400, "No element fits.", "noTarget")
        chosen = [{term.attribute: term.value for term in terms}]
        held = [*held, *chosen]
    for element in chosen:
        if not isinstance(element, dict):
            raise ScimError(400, "The elements are values.", "invalidPath")
        if sub is not None:
            _set(element, verb, key_of(element, sub), value)
        elif isinstance(value, dict):
            element.update(value)
        else:
            element["value"] = value
    return held


def _set(holder: dict[str, Any], verb: str, name: str, value: Any) -> None:
    held = holder.get(name)
    if verb == "remove":
        if isinstance(held, list) and isinstance(value, list | dict):
            gone = [_value_of(one) for one in (value if isinstance(value, list) else [value])]
            holder[name] = [element for element in held if _value_of(element) not in gone]
        else:
            holder.pop(name, None)
    elif verb == "add" and isinstance(held, list):
        added = value if isinstance(value, list) else [value]
        known = [_value_of(element) for element in held]
        holder[name] = held + [element for element in added if _value_of(element) not in known]
    elif isinstance(held, dict) and isinstance(value, dict):
        held.update(value)
    else:
        holder[name] = value


def _value_of(element: Any) -> Any:
    return get(element, "value") if isinstance(element, dict) else element


def get(document: dict[str, Any], name: str) -> Any:
    """Return an attribute by its name in any case, None where there is none (RFC 7643, section 2.1)."""
    return document.get(key_of(document, name))


def key_of(document: dict[str, Any], name: str) -> str:
    """Return how `document` spells an attribute's name, `name` where it has none such."""
    if name in document:
        return name
    return next((key for key in document if key.lower() == name.lower()), name)
