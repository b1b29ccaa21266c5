"""Arguments and results of the operations that find workflows and nodes."""

from typing import Any, Literal

from pydantic import AliasChoices, Field

from comfy_mcp.domain.vram import gib
from comfy_mcp.operations.shapes.base import CursorField, LimitField, NextStep, Params, Part, Result, Text

MakesName = Literal["image", "video", "audio", "3d", "text"]

_ABOUT = 160
"""Characters of a description in a list."""


def _left_out(value: object) -> bool:
    return value is None or value == [] or value == "" or value is False


def _sparse(default: Any = None, **how: Any) -> Any:
    """A member that is left out where it says nothing."""
    return Field(default=default, exclude_if=_left_out, **how)


class FindWorkflowParams(Params):
    query: str | None = Field(default=None, max_length=500, description="What it should do; omit to list all")
    kind: MakesName | None = Field(default=None, description="What it makes")
    limit: LimitField = 8


class DescribeWorkflowParams(Params):
    unlisted = frozenset({"all_choices"})  # a form shows them; a model asks find_nodes for those of one input

    name: str = Field(min_length=1, max_length=300, description="From find_workflow, or job:ID")
    all_choices: bool = Field(
        default=False,
        validation_alias=AliasChoices("all_choices", "allChoices"),
        title="All choices of each input, not only the first ones.",
    )


class FindNodesParams(Params):
    query: str | None = Field(default=None, max_length=500, description="What it should do")
    name: str | None = Field(
        default=None, max_length=300, description="One class in full, or CLASS.INPUT: all its choices"
    )
    produces: str | None = Field(default=None, max_length=100, description="Type, such as IMAGE")
    accepts: str | None = Field(default=None, max_length=100)
    limit: LimitField = 20
    cursor: CursorField = None


class NeededModelItem(Part):
    """A model file that the engine lacks. `folder` is below the engine's models folder."""

    name: Text
    folder: Text | None = _sparse()
    url: Text | None = _sparse()


class NeededClassItem(Part):
    """A node class that the engine lacks, and the pack that has it, as far as the workflow says."""

    name: Text
    pack: Text | None = _sparse()


class MissingItem(Part):
    """What a workflow needs and the engine does not have."""

    classes: list[NeededClassItem] = _sparse([])
    models: list[NeededModelItem] = _sparse([])
    model_bytes: int | None = _sparse()
    other: Text | None = _sparse()

    def text(self) -> str:
        classes = [f"{each.name}{f' (pack {each.pack})' if each.pack else ''}" for each in self.classes[:3]]
        models = [f"{each.name}{f' in {each.folder}' if each.folder else ''}" for each in self.models[:3]]
        more = len(self.classes) + len(self.models) - len(classes) - len(models)
        size = f" ({self.model_bytes / 1e9:.1f} GB of models in all)" if self.model_bytes else ""
        named = ", ".join([*classes, *models]) + (f" and {more} more" if more > 0 else "")
        return f"lacks {named}{size}" if named else self.other or ""


class FoundWorkflowItem(Part):
    """`runnable` is left out where it was not looked at. `inputs` are the names to set and their types, or
    what it takes in words."""

    name: Text
    origin: Literal["saved", "folder", "starter", "template", "job"]
    label: Text | None = _sparse()
    about: Text | None = _sparse()
    inputs: list[Text] = _sparse([])
    outputs: list[Text] = _sparse([])
    runnable: bool | None = Field(default=None, exclude_if=lambda value: value is None)
    missing: MissingItem | None = _sparse()
    paid: bool = _sparse(False)
    peak_vram_bytes: int | None = _sparse()

    def text(self) -> str:
        label = f" ({self.label})" if self.label and self.origin == "job" else ""
        about = f": {self.about}" if self.about else ""
        runs = "" if self.runnable is None else " Runs here." if self.runnable else " Can't run here"
        lacks = f" ({self.missing.text()})." if self.missing and self.missing.text() else ""
        takes = f" Inputs: {', '.join(self.inputs)}." if self.inputs else ""
        costs = " Costs Comfy credits." if self.paid else ""
        held = f" Needed {gib(self.peak_vram_bytes)} of VRAM before." if self.peak_vram_bytes else ""
        return f"{self.name}{label} [{self.origin}]{about.rstrip('.')}.{runs}{lacks}{takes}{held}{costs}"


class FoundWorkflowsResult(Result):
    workflows: list[FoundWorkflowItem]
    total: int
    next_step: NextStep | None = None

    def text(self) -> str:
        if not self.workflows:
            return "\n".join([*self.warnings, f"No workflow. {self.next_step or ''}".strip()])
        shown = "\n".join(f"- {each.text()}" for each in self.workflows)
        head = f"{len(self.workflows)} of {self.total} workflow(s), those that run here first:"
        return "\n".join(filter(None, [*self.warnings, head, shown, self.next_step]))


class ParameterItem(Part):
    """One input of a workflow. `value` is what it has now; `needed`: it has none that would run. `nodes` are
    the inputs that it sets, as NODE.INPUT. Of `choices` the first are shown, `choice_count` says how many."""

    name: Text
    type: str
    value: Any = None
    label: Text | None = _sparse()
    needed: bool = _sparse(False)
    minimum: float | None = _sparse()
    maximum: float | None = _sparse()
    choices: list[Any] = _sparse([])
    choice_count: int | None = _sparse()
    nodes: list[Text] = _sparse([])

    def text(self) -> str:
        label = f" ({self.label})" if self.label else ""
        bounds = (
            f" {_number(self.minimum)} to {_number(self.maximum)}"
            if self.minimum is not None and self.maximum is not None
            else ""
        )
        more = "…" if (self.choice_count or 0) > len(self.choices) else ""
        choices = f" of {', '.join(map(str, self.choices))}{more}" if self.choices else ""
        value = ", needed" if self.needed else f" = {self.value!r:.80}"
        return f"{self.name}{label}: {self.type}{bounds}{choices}{value}"


class DescribedWorkflowResult(Result):
    """One workflow and what can be set of it."""

    workflow: FoundWorkflowItem
    parameters: list[ParameterItem]
    next_step: NextStep | None = None

    def text(self) -> str:
        item = self.workflow.model_copy(update={"inputs": []})
        listed = "\n".join(f"- {each.text()}" for each in self.parameters)
        return f"{item.text()}\n{listed}\n{self.next_step or ''}".strip()


class NodeInputItem(Part):
    """One input of a class. Of `choices` the first are shown, `choice_count` says how many there are."""

    name: Text
    type: Text
    optional: bool = _sparse(False)
    default: Any = _sparse()
    minimum: float | None = _sparse()
    maximum: float | None = _sparse()
    choices: list[Any] = _sparse([])
    choice_count: int | None = _sparse()
    about: Text | None = _sparse()

    def text(self, most: int = 10) -> str:
        more = "…" if (self.choice_count or 0) > min(most, len(self.choices)) else ""
        choices = f" of {', '.join(map(str, self.choices[:most]))}{more}" if self.choices else ""
        default = f" = {self.default!r:.60}" if self.default is not None else ""
        return f"{self.name} {self.type}{choices}{default}{' (optional)' if self.optional else ''}"


class NodeItem(Part):
    """A node class, with its inputs where it was asked for by name. `outputs` are types."""

    name: Text
    category: Text | None = _sparse()
    about: Text | None = _sparse()
    outputs: list[Text] = _sparse([])
    inputs: list[NodeInputItem] = _sparse([])
    paid: bool = _sparse(False)


class FoundNodesResult(Result):
    nodes: list[NodeItem]
    total: int
    next_cursor: str | None = _sparse()
    next_step: NextStep | None = _sparse()

    def text(self) -> str:
        return "\n".join([*self.warnings, self._listed()])

    def _listed(self) -> str:
        if not self.nodes:
            return f"No such node. {self.next_step or ''}".strip()
        if len(self.nodes) == 1 and self.nodes[0].inputs:
            return _node_in_full(self.nodes[0], self.next_cursor)
        shown = "\n".join(f"- {each.name}{_gives(each)}{_about(each)}" for each in self.nodes)
        more = "\n… (pass next_cursor as cursor)" if self.next_cursor else ""
        return f"{len(self.nodes)} of {self.total} node class(es):\n{shown}{more}"


def _node_in_full(node: NodeItem, more: str | None) -> str:
    most = 200 if len(node.inputs) == 1 else 10
    inputs = "\n".join(f"- {each.text(most)}" for each in node.inputs)
    rest = "\n… (pass next_cursor as cursor)" if more else ""
    return f"{node.name}{_gives(node)}{_about(node)}\n{inputs}{rest}"


def _gives(node: NodeItem) -> str:
    return f" → {', '.join(node.outputs)}" if node.outputs else ""


def _about(node: NodeItem) -> str:
    return f": {node.about[:_ABOUT]}" if node.about else ""


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e15 else "any"
