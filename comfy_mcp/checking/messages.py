"""What the two processes say to each other: pickles behind their length, over pipes that nobody else has."""

import copyreg
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from comfy_mcp.domain.errors import GraphProblem, InvalidGraph
from comfy_mcp.domain.graph_checks import GraphReport
from comfy_mcp.domain.needs import Needs
from comfy_mcp.domain.object_info import ObjectInfo
from comfy_mcp.domain.ui_scopes import Controls
from comfy_mcp.domain.ui_texts import Moment

HEADER = struct.Struct(">Q")

OUT_OF_MEMORY = 70
"""Exit code of the process that checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`text` is the workflow as JSON. `info` None: that of the question before, if `same_info`."""

    text: bytes
    cpu_s: int
    info: ObjectInfo | None
    same_info: bool
    moment: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`raw` is the graph in API format; None where that is what the question had. Reading it again is less
    than sending it read."""

    raw: Mapping[str, Any] | None
    report: GraphReport
    needs: Needs
    warnings: tuple[str, ...]
    controls: Controls


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An InvalidGraph."""

    message: str
    next_step: str
    problems: tuple[GraphProblem, ...]
    code: str
    details: Mapping[str, object]

    @classmethod
    def of(cls, error: InvalidGraph) -> "Refusal":
        return cls(
            message=error.message,
            next_step=error.next_step,
            problems=tuple(error.problems),
            code=error.code.value,
            details=error.details,
        )


def packed(message: object) -> bytes:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(data)) + data


def unpacked(data: bytes) -> Any:
    return pickle.loads(data)  # noqa: S301 - written by this program, in the process that it started or was started by


def _proxy(mapping: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(mapping)


def _reduced(proxy: Any) -> tuple[Any, ...]:
    return _proxy, (dict(proxy),)


copyreg.pickle(
    MappingProxyType, _reduced
)  # the domain's mappings are read-only, and pickle knows no such thing
