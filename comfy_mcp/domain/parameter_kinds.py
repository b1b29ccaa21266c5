"""What kind of value an input of a workflow takes, in the words that a caller knows."""

from collections.abc import Mapping
from enum import StrEnum
from itertools import chain
from typing import Any

from comfy_mcp.domain.catalog import is_model_file
from comfy_mcp.domain.graph import Node
from comfy_mcp.domain.inputs import InputSpec


class ParameterKind(StrEnum):
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    MODEL = "model"
    IMAGE = "image"
    MASK = "mask"
    AUDIO = "audio"
    VIDEO = "video"
    FILE = "file"


FILES = frozenset(
    {ParameterKind.IMAGE, ParameterKind.MASK, ParameterKind.AUDIO, ParameterKind.VIDEO, ParameterKind.FILE}
)
"""Kinds whose value names a file in the engine's input folder."""

_KINDS = {
    "STRING": ParameterKind.TEXT,
    "INT": ParameterKind.INTEGER,
    "FLOAT": ParameterKind.NUMBER,
    "BOOLEAN": ParameterKind.BOOLEAN,
}
_OF_VALUES = (
    (bool, ParameterKind.BOOLEAN),
    (int, ParameterKind.INTEGER),
    (float, ParameterKind.NUMBER),
)
_UPLOADS = {
    "image_upload": ParameterKind.IMAGE,
    "video_upload": ParameterKind.VIDEO,
    "audio_upload": ParameterKind.AUDIO,
    "file_upload": ParameterKind.FILE,
}


def declared_type(spec: InputSpec | None) -> str | None:
    return None if spec is None else spec.type


def kind_of(node: Node, spec: InputSpec | None, value: object) -> ParameterKind:
    extra: Mapping[str, Any] = {} if spec is None else spec.extra
    for option, kind in _UPLOADS.items():
        if extra.get(option):
            masked = kind is ParameterKind.IMAGE and "mask" in node.class_type.lower()
            return ParameterKind.MASK if masked else kind
    options = () if spec is None else (spec.options or extra.get("options") or ())
    if spec is not None and spec.type == "COMBO":
        named = next((each for each in chain((value,), options) if isinstance(each, str) and each), "")
        return ParameterKind.MODEL if is_model_file(named) else ParameterKind.CHOICE
    declared = _KINDS.get(declared_type(spec) or "")
    if declared is not None:
        return declared
    if isinstance(value, str) and is_model_file(value):
        return ParameterKind.MODEL
    return next((kind for of, kind in _OF_VALUES if isinstance(value, of)), ParameterKind.TEXT)


def choices_of(spec: InputSpec | None) -> tuple[object, ...] | None:
    options = None if spec is None else spec.options or spec.extra.get("options")
    return tuple(options) if isinstance(options, list | tuple) and options else None
