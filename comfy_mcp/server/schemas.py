"""JSON schemas that every client accepts: flat, no references, no unions.

Some clients refuse `$ref`, `$defs` and `anyOf`, and every byte is paid for in each agent's context.
"""

from collections.abc import Mapping
from typing import Any

from pydantic.alias_generators import to_camel

from comfy_mcp.operations.shapes import (
    MAX_INTEGER,
    AttemptItem,
    CheckedResult,
    EngineItem,
    OutputItem,
    OutputsResult,
    Params,
    Result,
    ViewResult,
    WorkflowResult,
    WorkflowsResult,
)

JsonSchema = dict[str, Any]

_INPUT_KEYS = ("type", "enum", "description", "minimum", "maximum", "default")


def input_schema(params: type[Params], *, local: bool = True) -> JsonSchema:
    """The arguments of a tool: snake_case names, only what a model needs to know. `local`: with those that
    name files of this machine."""
    raw = params.model_json_schema(mode="validation")
    hidden = params.unlisted if local else params.unlisted | params.local
    schema: JsonSchema = {
        "type": "object",
        "properties": {
            name: _argument(node, raw)
            for name, node in raw.get("properties", {}).items()
            if name not in hidden
        },
    }
    if raw.get("required"):
        schema["required"] = raw["required"]
    return schema


def output_schema(result: type[Result]) -> JsonSchema:
    """A tool's structured result with the members of its lists' entries. What is not known is left out, so
    nothing is null; what is deeper is left open."""
    raw = result.model_json_schema(mode="serialization", by_alias=True)
    unnamed = _UNNAMED | _FAULTS if issubclass(result, CheckedResult) else _UNNAMED
    return {
        "type": "object",
        "properties": {
            name: _member(node, raw, result)
            for name, node in raw["properties"].items()
            if name not in unnamed
        },
    }


_UNNAMED = frozenset(
    {
        *("gpuSeconds", "peakVramBytes", "queueDeadline", "runDeadline"),
        *("currentNodeId", "priority", "client", "attempt", "attempts", "etaRangeMs", "retryOf", "retriedBy"),
        *("startTime", "completionTime", "createdTime", "cancelRequested", "engine", "error", "batch"),
        *("cost", "spending", "tags"),
    }
)
"""Members of a state that a model seldom acts by: they come, and the schema spares their names."""

_FAULTS = frozenset({"problems", "missingModels"})
"""Of a workflow that runs all the same; its warnings say them too."""


def _member(node: Mapping[str, Any], root: Mapping[str, Any], result: type[Result]) -> JsonSchema:
    found = _alternatives(node, root)[0]
    items = _alternatives(found["items"], root)[0] if "items" in found else {}
    named = items.get("properties")
    if named is None or items["title"] == AttemptItem.__name__:  # asked for seldom: left open
        return _typed(found)
    hidden = _hidden(items["title"], result)
    entry = {name: _typed(_alternatives(each, root)[0]) for name, each in named.items() if name not in hidden}
    return {"type": "array", "items": {"type": "object", "properties": entry}}


def _hidden(entry: str, result: type[Result]) -> frozenset[str]:
    """Wire names of the members that an entry never has there, or that no model acts by."""
    if entry == OutputItem.__name__ and result is OutputsResult:
        return frozenset({"url", "subfolder", "folder", "mediaType", "path", "link"})
    if entry == OutputItem.__name__ and result is ViewResult:
        return frozenset(map(to_camel, set(OutputItem.model_fields) - {"output_id", "filename"}))
    if entry == OutputItem.__name__ and result is WorkflowResult:
        return frozenset(map(to_camel, OutputItem.unstated))
    if entry == EngineItem.__name__:
        return frozenset({"events", "ageMs"})
    if entry == WorkflowResult.__name__ and result is WorkflowsResult:
        return frozenset(map(to_camel, set(WorkflowResult.model_fields) - WorkflowResult.entry))
    return frozenset()


def _argument(node: Mapping[str, Any], root: Mapping[str, Any]) -> JsonSchema:
    options = _alternatives(node, root)
    first = {**options[0], **{key: node[key] for key in ("description",) if key in node}}
    if len(options) > 1:  # such as a name or a graph
        first["type"] = [option["type"] for option in options]
    first.pop("default", None)
    if (default := node.get("default")) is not None and default is not False:  # a flag is off by itself
        first["default"] = default
    if first.get("minimum") in (0, 1):  # nobody asks for less than nothing
        del first["minimum"]
    if first.get("maximum") == MAX_INTEGER:
        del first["maximum"]
    return {key: first[key] for key in _INPUT_KEYS if key in first}


def _typed(node: Mapping[str, Any]) -> JsonSchema:
    """Of what may be any value, such as the default of an input, nothing is said."""
    return {"type": node["type"]} if "type" in node else {}


def _alternatives(node: Mapping[str, Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the value may be, references resolved, null left out. Never empty."""
    options = [_resolved(option, root) for option in node.get("anyOf", [node])]
    return [option for option in options if option.get("type") != "null"]


def _resolved(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = node.get("$ref")
    if reference is None:
        return node
    return root["$defs"][str(reference).rsplit("/", 1)[-1]]  # type: ignore[no-any-return]
