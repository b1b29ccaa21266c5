"""Nodes that hold or join plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_mcp.embedded.nodes.base import Input, Inputs, NodeResult, NodeType, RunContext
from comfy_mcp.embedded.nodes.transform import V3

_LARGEST = 2**63 - 1
_MODULE = "comfy_extras.nodes_primitive"


def _value(_: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult(values=(inputs["value"],))


def _concatenate(_: RunContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult(values=(inputs["delimiter"].join((inputs["string_a"], inputs["string_b"])),))


def _primitive(name: str, display_name: str, kind: str, options: Mapping[str, Any]) -> NodeType:
    return NodeType(
        name=name,
        display_name=display_name,
        category="utils/primitive",
        python_module=_MODULE,
        described_as={"output_tooltips": [None], **V3},
        inputs=lambda _: Inputs(required={"value": Input(kind, options)}),
        returns=(kind,),
        run=_value,
    )


_CONCATENATE = NodeType(
    name="StringConcatenate",
    display_name="Concatenate",
    category="utils/string",
    python_module="comfy_extras.nodes_string",
    described_as={"output_tooltips": [None], **V3},
    inputs=lambda _: Inputs(
        required={
            "string_a": Input("STRING", {"multiline": True}),
            "string_b": Input("STRING", {"multiline": True}),
            "delimiter": Input("STRING", {"default": "", "multiline": False}),
        }
    ),
    returns=("STRING",),
    run=_concatenate,
)

NODES = (
    _primitive("PrimitiveString", "String", "STRING", {"multiline": False}),
    _primitive("PrimitiveStringMultiline", "String (Multiline)", "STRING", {"multiline": True}),
    _primitive(
        "PrimitiveInt",
        "Int",
        "INT",
        {"min": -_LARGEST, "max": _LARGEST, "control_after_generate": True},
    ),
    _primitive("PrimitiveFloat", "Float", "FLOAT", {"min": -_LARGEST, "max": _LARGEST}),
    _primitive("PrimitiveBoolean", "Boolean", "BOOLEAN", {}),
    _CONCATENATE,
)
