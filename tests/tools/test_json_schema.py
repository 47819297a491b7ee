"""Schemas of strangers, made acceptable: what every wire demands holds for whatever comes in."""

import re

from hypothesis import given
from hypothesis import strategies as st

from lathe.tools.json_schema import for_models

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "items",
                    "anyOf",
                    "allOf",
                    "$ref",
                    "$defs",
                    "a",
                    "required",
                    "enum",
                    "not",
                    "const",
                ]
            )
            | st.text(max_size=3),
            inner | st.sampled_from(["object", "array", "#", "#/$defs/a", "#/properties/a"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


def nodes(schema):
    yield schema
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key])
    for part in schema.get("properties", {}).values():
        yield from nodes(part)


@given(JSON)
def test_whatever_comes_in_an_object_schema_comes_out(schema):
    cleaned, _ = for_models(schema)
    assert cleaned["type"] == "object"
    assert not {"anyOf", "oneOf", "allOf", "enum", "not", "$ref"} & cleaned.keys()
    assert all(re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name) for name in cleaned["properties"])
    assert set(cleaned.get("required", ())) <= cleaned["properties"].keys()


def test_a_plain_schema_stays_as_it_is():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "description": "x"}, "b": {"type": ["integer", "null"], "default": 1}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert for_models(schema) == (schema, ())


def test_references_are_written_out_and_cycles_end_open():
    schema = {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/Node"}, "away": {"$ref": "https://example.org/x"}},
        "$defs": {
            "Node": {"type": "object", "properties": {"name": {"type": "string"}, "left": {"$ref": "#/$defs/Node"}}}
        },
    }
    properties = for_models(schema)[0]["properties"]
    assert properties["tree"]["properties"] == {"name": {"type": "string"}, "left": {}}
    assert properties["away"] == {}


def test_a_reference_that_doubles_itself_does_not_explode():
    definitions = {
        f"d{number}": {"properties": {side: {"$ref": f"#/$defs/d{number + 1}"} for side in ("l", "r")}}
        for number in range(40)
    }
    cleaned, _ = for_models({"type": "object", "properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": definitions})
    assert sum(1 for _ in nodes(cleaned)) < 10_000


def test_choices_at_the_top_become_properties_that_may_be_missing():
    schema = {
        "oneOf": [
            {"properties": {"id": {"type": "integer"}}, "required": ["id"]},
            {"properties": {"name": {"type": "string"}}, "required": ["name"]},
        ]
    }
    cleaned, _ = for_models(schema)
    assert cleaned == {"type": "object", "properties": {"name": {"type": "string"}, "id": {"type": "integer"}}}


def test_arrays_get_items_and_constants_become_enumerations():
    schema = {"type": "object", "properties": {"list": {"type": "array"}, "kind": {"const": "a"}}}
    properties = for_models(schema)[0]["properties"]
    assert properties == {"list": {"type": "array", "items": {}}, "kind": {"enum": ["a"]}}


def test_a_property_with_a_name_that_no_wire_takes_is_left_out_and_said():
    cleaned, notes = for_models({"properties": {"ok": {}, "not ok": {}}, "required": ["ok", "not ok"]})
    assert cleaned == {"type": "object", "properties": {"ok": {}}, "required": ["ok"]}
    assert notes == ("Left out of the parameters for their names: 'not ok'.",)
