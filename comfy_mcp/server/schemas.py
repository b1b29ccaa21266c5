"""JSON schemas that every client accepts: flat, no references, no unions.

Some clients refuse `$ref`, `$defs` and `anyOf`, and every byte is paid for in each agent's context.
"""

from collections.abc import Mapping
from typing import Any

from comfy_mcp.operations.shapes import Params, Result

JsonSchema = dict[str, Any]

_INPUT_KEYS = ("type", "enum", "description", "minimum", "maximum", "default")


def input_schema(params: type[Params]) -> JsonSchema:
    """The arguments of a tool: snake_case names, only what a model needs to know."""
    raw = params.model_json_schema(mode="validation")
    schema: JsonSchema = {
        "type": "object",
        "properties": {
            name: _argument(node, raw)
            for name, node in raw.get("properties", {}).items()
            if name not in params.unlisted
        },
    }
    if raw.get("required"):
        schema["required"] = raw["required"]
    return schema


def output_schema(result: type[Result]) -> JsonSchema:
    """The top level of a tool's structured result: the members that say something of every result. Those with
    a default, and what is inside lists and objects, are left open."""
    raw = result.model_json_schema(mode="serialization", by_alias=True)
    always = {
        field.alias
        for name, field in result.model_fields.items()
        if field.is_required() and name not in result.unlisted
    }
    return {
        "type": "object",
        "properties": {
            name: {"type": _types(node, raw)} for name, node in raw["properties"].items() if name in always
        },
    }


def _argument(node: Mapping[str, Any], root: Mapping[str, Any]) -> JsonSchema:
    first = {**_alternatives(node, root)[0], **{key: node[key] for key in ("description",) if key in node}}
    first.pop("default", None)
    if (default := node.get("default")) is not None and default is not False:  # a flag is off by itself
        first["default"] = default
    return {key: first[key] for key in _INPUT_KEYS if key in first}


def _types(node: Mapping[str, Any], root: Mapping[str, Any]) -> str | list[str]:
    found = [str(option["type"]) for option in _alternatives(node, root)]
    if _nullable(node):
        found.append("null")
    return found[0] if len(found) == 1 else found


def _alternatives(node: Mapping[str, Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the value may be, references resolved, null left out. Never empty."""
    options = [_resolved(option, root) for option in node.get("anyOf", [node])]
    return [option for option in options if option.get("type") != "null"]


def _nullable(node: Mapping[str, Any]) -> bool:
    return any(option.get("type") == "null" for option in node.get("anyOf", ()))


def _resolved(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = node.get("$ref")
    if reference is None:
        return node
    return root["$defs"][str(reference).rsplit("/", 1)[-1]]  # type: ignore[no-any-return]
