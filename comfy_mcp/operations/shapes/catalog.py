"""Results of the operations on models, inputs and outputs."""

from typing import ClassVar

from pydantic import Field

from comfy_mcp.operations.shapes.base import (
    Part,
    Result,
    Text,
)
from comfy_mcp.operations.shapes.jobs import OutputItem, more_pages, saved_as


class ModelItem(Part):
    entry: ClassVar[frozenset[str]] = frozenset({"name", "type", "size"})

    name: Text
    type: Text
    size: int | None
    hash: str | None


class UploadResult(Result):
    """An input file on the engine. Use `name` in the workflow; it may differ from the name sent."""

    name: Text
    subfolder: Text
    type: str

    def text(self) -> str:
        return f"Uploaded as {f'{self.subfolder}/' if self.subfolder else ''}{self.name}."


class ModelsResult(Result):
    models: list[ModelItem]
    types: list[Text]
    next_cursor: str | None = None
    total: int | None = None

    def text(self) -> str:
        shown = ", ".join(item.name for item in self.models)
        count = self.total if self.total is not None else len(self.models)
        listed = f"{count} model(s): {shown}.{more_pages(self.next_cursor)}"
        listed = listed if shown else f"No models. Types: {', '.join(self.types)}."
        return " ".join([*self.warnings, listed])


class OutputsResult(Result):
    outputs: list[OutputItem]
    next_cursor: str | None = None

    def text(self) -> str:
        shown = ", ".join(
            f"{item.type} {item.filename or 'text'} ({item.output_id})" for item in self.outputs
        )
        listed = f"{len(self.outputs)} output(s), newest first: {shown}.{more_pages(self.next_cursor)}"
        return " ".join([*self.warnings, listed if shown else "No outputs."])


class ViewResult(Result):
    """`preview` is the image for the model; it is not part of the JSON. Of several outputs it shows each with
    its number in `outputs`, and `output` is the first."""

    output: OutputItem
    outputs: list[OutputItem] = Field(default_factory=list, exclude_if=lambda outputs: not outputs)
    width: int | None = None
    height: int | None = None
    preview: bytes | None = Field(default=None, exclude=True, repr=False)
    preview_media_type: str | None = None
    note: str | None = None
    saved: list[Text] = Field(default_factory=list, exclude_if=lambda saved: not saved)

    def text(self) -> str:
        shown = f"preview {self.width}x{self.height} of " if self.preview is not None else ""
        named = "; ".join(f"{number}. {item.text()}" for number, item in enumerate(self.outputs, start=1))
        named = named or self.output.text()
        return f"{shown}{named}.{saved_as(self.saved)} {self.note or ''}".strip()


class PreviewResult(Result):
    """The last picture that the engine sent of a running workflow. It is kept nowhere."""

    workflow_id: str
    media_type: str
    data: bytes = Field(exclude=True, repr=False)

    def text(self) -> str:
        return f"A preview of workflow {self.workflow_id}."


class OutputContentResult(Result):
    """The bytes of an output, at most `operations.catalog.READ_BYTES`."""

    output: OutputItem
    media_type: str
    data: bytes = Field(exclude=True, repr=False)

    def text(self) -> str:
        return self.output.text()
