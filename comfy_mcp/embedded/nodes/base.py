"""What a node is: a description that clients read in /object_info, and a function that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from comfy_mcp.embedded.config import EngineConfig
from comfy_mcp.embedded.directories import Directories


class NodeFailure(Exception):
    """A node cannot do what was asked. `kind` is the exception type that clients get."""

    def __init__(self, message: str, *, kind: str = "Exception") -> None:
        super().__init__(message)
        self.kind = kind


class Interrupted(Exception):
    """POST /interrupt hit the running prompt."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a node: its type (a name, or the list of choices) and its options."""

    type: str | list[str]
    options: Mapping[str, Any] | None = None

    def config(self) -> list[Any]:
        """The pair that validation errors show."""
        return [self.type, dict(self.options or {})]

    def described(self) -> list[Any]:
        """The form in /object_info, where an input without options has one element only."""
        return [self.type] if self.options is None else self.config()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    required: Mapping[str, Input] = field(default_factory=dict)
    optional: Mapping[str, Input] | None = None
    hidden: Mapping[str, str] | None = None

    def declared(self) -> dict[str, tuple[Input, bool]]:
        """Every visible input with whether it is required, in the order of declaration."""
        found = {name: (spec, True) for name, spec in self.required.items()}
        found |= {name: (spec, False) for name, spec in (self.optional or {}).items()}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResult:
    """values: one per output slot. ui: what /history shows and `executed` sends, None for nothing."""

    values: tuple[Any, ...] = ()
    ui: Mapping[str, Any] | None = None


class RunContext(Protocol):
    """What a running node may use. Every method may be called from the worker thread only."""

    directories: Directories
    config: EngineConfig
    temp_suffix: str
    just_freed: bool
    prompt: Mapping[str, Any]
    extra_pnginfo: Mapping[str, Any] | None

    def progress(self, value: int, maximum: int, preview: Image.Image | None = None) -> None:
        """Report a finished step; raises Interrupted when the prompt is to stop."""

    def wait(self, seconds: float) -> None:
        """Let time pass; raises Interrupted at once when the prompt is to stop."""

    def load(self, model: str, seconds: float) -> None:
        """Let that time pass if another model was loaded last."""


Run = Callable[[RunContext, Mapping[str, Any]], NodeResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """A class of node. `inputs` is a function because some choices depend on the files present.

    check: names an input and the reason why its value cannot be used, None when all is well.
    checks_itself: inputs that `check` covers, so that the general bounds and choices do not apply.
    fingerprint: something that changes when the outside world that the node reads changes.
    """

    name: str
    display_name: str | None
    category: str
    inputs: Callable[[Directories], Inputs]
    run: Run
    returns: tuple[str, ...] = ()
    return_names: tuple[str, ...] | None = None
    output_node: bool = False
    description: str = ""
    python_module: str = "nodes"
    described_as: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[Directories, Mapping[str, Any]], tuple[str, str] | None] | None = None
    checks_itself: frozenset[str] = frozenset()
    fingerprint: Callable[[Directories, Mapping[str, Any]], str] | None = None

    def describe(self, directories: Directories) -> dict[str, Any]:
        """The entry of this class in /object_info."""
        inputs = self.inputs(directories)
        groups: dict[str, dict[str, Any]] = {
            "required": {name: spec.described() for name, spec in inputs.required.items()}
        }
        if inputs.optional is not None:
            groups["optional"] = {name: spec.described() for name, spec in inputs.optional.items()}
        if inputs.hidden is not None:
            groups["hidden"] = dict(inputs.hidden)
        return {
            "input": groups,
            "input_order": {group: list(members) for group, members in groups.items()},
            "output": list(self.returns),
            "output_is_list": [False] * len(self.returns),
            "output_name": list(self.return_names or self.returns),
            "name": self.name,
            "display_name": self.display_name,
            "description": self.description,
            "python_module": self.python_module,
            "category": self.category,
            "output_node": self.output_node,
            **self.described_as,
        }
