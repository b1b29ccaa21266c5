"""The words that inputs and results share, and their base classes."""

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

StatusName = Literal["queued", "running", "completed", "failed", "cancelled"]
StatusFilterName = Literal["queued", "running", "completed", "failed", "cancelled", "ended"]
"""`ended` is any of the three that nothing leaves."""

PriorityName = Literal["low", "normal", "high"]
LaneName = Literal["local", "comfy-api-v2", "salad", "auto"]
FailureKindName = Literal[
    "validation",
    "node_error",
    "oom",
    "missing_model",
    "missing_input",
    "engine_lost",
    "engine_bad_answer",
    "cancelled_externally",
    "timeout",
    "internal",
    "parent_failed",
]
OutputKindName = Literal["image", "video", "audio", "text", "latent", "3d", "file"]


WorkflowIdField = Annotated[
    str,
    Field(
        validation_alias=AliasChoices("workflow_id", "workflowId"),
        min_length=1,
        max_length=64,
        description="From submit_workflow",
    ),
]


def joined(value: object) -> object:
    """A list of ids as one text."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def at_most(count: int) -> BeforeValidator:
    """Refuses a list or an object with more entries, before any of these is validated."""

    def check(value: object) -> object:
        if isinstance(value, list | dict) and len(value) > count:
            raise ValueError(f"must have at most {count} entries")
        return value

    return BeforeValidator(check)


def _as_it_is(value: object, handler: Callable[[object], object]) -> object:
    return value if isinstance(value, dict) else handler(value)


FREE = WrapValidator(_as_it_is)
"""Of an object that may hold anything: it is not copied. Hundreds of thousands of keys take long."""


def one_line(value: str | None) -> str | None:
    """A name or a reason without line breaks and control characters; None for what then is empty."""
    return " ".join(_CONTROLS.sub(" ", value).split()) or None if value else None


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _each_short(value: str) -> str:
    if any(len(part) > MAX_ID for part in value.split(",")):
        raise ValueError(f"must be ids of at most {MAX_ID} characters")
    return value


MAX_ID = 64
MINE = "mine"
"""In place of an id, where workflows are cancelled: all of the caller's that have not ended."""

WorkflowIdsField = Annotated[
    str,
    BeforeValidator(joined),
    AfterValidator(_each_short),
    Field(
        validation_alias=AliasChoices("workflow_id", "workflowId", "workflow_ids", "workflowIds"),
        min_length=1,
        max_length=4096,
        description="Id from submit_workflow, or several",
    ),
]
MAX_INTEGER = 2**53 - 1
"""The greatest that JSON carries everywhere (RFC 8259, 6); databases take it too."""

LimitField = Annotated[
    int,
    Field(
        ge=1, le=200, title="Maximum number of entries. Without a default: all, if `cursor` is omitted too."
    ),
]
SinceField = Annotated[int | None, Field(ge=0, le=MAX_INTEGER, description="Epoch ms")]
FieldsName = Literal["brief", "full"]
FieldsField = Annotated[
    FieldsName | None,
    Field(
        title="What an entry has: what one chooses by, or everything. Default: brief in MCP, full elsewhere."
    ),
]
CursorField = Annotated[str | None, Field(max_length=512, title="`nextCursor` of the previous page.")]


def whole_characters(value: object) -> object:
    """Half a surrogate pair (in a node's title, say) is no text: no JSON can be made of it."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


Text = Annotated[str, BeforeValidator(whole_characters)]
"""What came from outside: a graph, an engine, a disk."""


def in_words(retell: Callable[[str], str]) -> dict[str, Any]:
    """The `context` of a dump in which every next step is what `retell` makes of it."""
    return {"retell": retell}


def _said(advice: str, info: SerializationInfo) -> str:
    return str(info.context["retell"](advice)) if info.context else advice


NextStep = Annotated[str, PlainSerializer(_said, return_type=str)]
"""Advice, in MCP's words unless the dump is given others (operations/next_steps.py)."""


class Params(BaseModel):
    """Base of all inputs. Unknown keys are tolerated, as the v1 contract says.

    A field that needs no description for an agent has a `title` instead: it is left out of a tool's schema,
    where each byte is paid for in every agent's context, and stands in the OpenAPI document. An
    `unlisted` field is not in the tool's schema at all, a `local` one only where the caller's files are on
    this machine.
    """

    unlisted: ClassVar[frozenset[str]] = frozenset()
    local: ClassVar[frozenset[str]] = frozenset()
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, defer_build=True)


class Part(BaseModel):
    """Base of everything that goes out: camelCase on the wire. `entry`: its members in a brief list."""

    entry: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        defer_build=True,
    )


class Result(Part):
    """Base of all results."""

    warnings: list[Text] = Field(default_factory=list, exclude_if=lambda warnings: not warnings)
    # What is no field stands in `__dict__`, as a cached property does. Pydantic's own way for such values
    # takes 24 calls for each result that is made.
    _repairs: ClassVar[tuple[str, ...]] = ()
    _fields: ClassVar[FieldsName | None] = None

    def rendered(self, surface: str, render: Callable[["Result"], bytes]) -> bytes:
        """The bytes of a surface's answer, made once: a client that polls gets the very same result."""
        made: dict[str, bytes] = self.__dict__.setdefault("_rendered", {})
        body = made.get(surface)
        if body is None:
            body = made[surface] = render(self)
        return body

    def __copy__(self) -> Self:
        """With nothing rendered: a copy is made to be changed."""
        copy = super().__copy__()
        copy.__dict__.pop("_rendered", None)
        return copy

    def with_repairs(self, repairs: tuple[str, ...]) -> Self:
        """With a warning for each argument that was changed."""
        own = [text for text in repairs if text not in self.warnings]
        result = self.model_copy(update={"warnings": [*self.warnings, *own]})
        result.__dict__["_repairs"] = repairs
        return result

    @property
    def fields(self) -> FieldsName | None:
        """How much of each entry the caller asked for. None: as the surface does."""
        return self._fields

    def with_fields(self, fields: FieldsName) -> Self:
        result = self.model_copy()
        result.__dict__["_fields"] = fields
        return result

    def text(self) -> str:
        """One line for an agent."""
        raise NotImplementedError

    def text_with_repairs(self) -> str:
        """`text`, and which arguments were changed."""
        text = self.text()
        own = [repair for repair in self._repairs if repair not in text]
        return f"{text} Warning: {' '.join(own)}" if own else text
