"""What every client can read."""

import json
from typing import Any

import pytest
from mcp_types import Tool

from comfy_mcp.operations.registry import BY_NAME, OPERATIONS
from comfy_mcp.operations.shapes import SubmitParams, WaitParams, WorkflowResult, WorkflowsResult
from comfy_mcp.server.app import INSTRUCTIONS
from comfy_mcp.server.schemas import input_schema, output_schema
from comfy_mcp.server.tools import tools

REFUSED = ("$ref", "$defs", "anyOf", "oneOf", "allOf", "title")
MODEL_BYTES = 8_000
LIST_BYTES = 14_250
"""2,000 and 3,500 tokens of o200k_base: JSON of tools has 4.07 bytes a token there, and more."""


def keys_of(node: Any) -> set[str]:
    """The words of JSON Schema in a schema, without the names of members."""
    if isinstance(node, dict):
        members = node.get("properties", {})
        inside = [*members.values(), *(value for key, value in node.items() if key != "properties")]
        return set(node).union(*map(keys_of, inside))
    if isinstance(node, list):
        return set().union(*(keys_of(value) for value in node))
    return set()


def test_the_tool_list_and_the_instructions_fit_the_budget() -> None:
    listed = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools()]
    for_models = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in listed]
    assert size_of(for_models) + len(INSTRUCTIONS.encode()) <= MODEL_BYTES
    assert size_of(listed) <= LIST_BYTES


def size_of(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def test_an_argument_that_names_a_file_here_is_offered_only_to_callers_on_this_machine() -> None:
    assert "path" in input_schema(SubmitParams)["properties"]
    assert "path" not in input_schema(SubmitParams, local=False)["properties"]
    assert [tool.name for tool in tools(local=False)] == [tool.name for tool in tools()]


def test_a_lane_that_does_not_work_is_not_offered() -> None:
    assert "gpu" not in input_schema(SubmitParams)["properties"]


@pytest.mark.parametrize("tool", tools(), ids=lambda tool: tool.name)
def test_schemas_are_flat_objects(tool: Tool) -> None:
    for schema in (tool.input_schema, tool.output_schema):
        assert schema is not None
        assert schema["type"] == "object"
        assert keys_of(schema).isdisjoint(REFUSED)


@pytest.mark.parametrize("tool", tools(), ids=lambda tool: tool.name)
def test_every_argument_has_a_type_and_every_tool_a_title_and_all_hints(tool: Tool) -> None:
    assert all("type" in argument for argument in tool.input_schema["properties"].values())
    assert tool.title
    assert tool.description
    assert tool.annotations is not None
    hints = tool.annotations.model_dump(exclude={"title"})
    assert set(hints.values()) <= {True, False}
    assert len(hints) == 4


def test_the_tools_are_the_registry_s() -> None:
    assert [tool.name for tool in tools()] == [item.name for item in OPERATIONS if item.tool]


def test_hints_come_from_the_operation() -> None:
    cancel = next(tool for tool in tools() if tool.name == "cancel_workflow")
    assert cancel.annotations is not None
    assert cancel.annotations.destructive_hint is BY_NAME["cancel_workflow"].destructive is True
    assert cancel.annotations.read_only_hint is False


def test_an_optional_argument_is_not_required_and_has_no_null() -> None:
    schema = input_schema(WaitParams)
    assert schema["required"] == ["workflow_id"]
    assert schema["properties"]["timeout_s"]["type"] == "number"


def test_an_argument_of_several_types_names_them() -> None:
    """A model that reads "object" would never give a name."""
    assert input_schema(SubmitParams)["properties"]["workflow"]["type"] == ["string", "object"]


def test_a_choice_shows_its_values_and_its_default() -> None:
    priority = input_schema(SubmitParams)["properties"]["priority"]
    assert priority == {"type": "string", "enum": ["low", "normal", "high"], "default": "normal"}


def test_results_are_described_in_the_wire_s_names_with_the_members_of_their_lists() -> None:
    properties = output_schema(WorkflowResult)["properties"]
    assert properties["workflowId"] == {"type": "string"}
    assert properties["queuePosition"] == {"type": "integer"}
    assert properties["failure"] == {"type": "object"}
    assert {"outputCount", "warnings", "nextStep"} <= set(properties)
    assert set(properties["outputs"]["items"]["properties"]) == {
        "outputId", "filename", "type", "size", "nodeId", "content", "path", "link",
    }  # fmt: skip
    listed = output_schema(WorkflowsResult)["properties"]
    assert {"workflows", "nextCursor", "warnings"} == set(listed)
    assert {"workflowId", "status", "createdTime"} <= set(listed["workflows"]["items"]["properties"])


@pytest.mark.parametrize("tool", tools(), ids=lambda tool: tool.name)
def test_no_member_of_a_result_has_two_types(tool: Tool) -> None:
    """Clients that build classes from a schema drop such members. What may be any value has no type."""
    schema = tool.output_schema or {}
    entries = [each.get("items", {}).get("properties", {}) for each in schema["properties"].values()]
    for members in [schema["properties"], *entries]:
        assert all(each == {} or isinstance(each["type"], str) for each in members.values())
