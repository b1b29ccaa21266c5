"""A workflow that can be submitted by its name: what it is called, what it makes, what it takes."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class WorkflowOrigin(StrEnum):
    """Where a named workflow comes from. Of several with one name the first of these counts."""

    SAVED = "saved"  # by the user, in ComfyUI
    FOLDER = "folder"  # of the bridge's own, COMFY_BRIDGE_WORKFLOWS
    STARTER = "starter"  # made by the bridge, for the models that the engine has
    TEMPLATE = "template"  # that the engine serves


MAKES = ("image", "video", "audio", "3d", "text")
"""What a workflow is asked for by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowEntry:
    """`about` is one line. `words` are tags, models and the like, by which it is found too.

    `makes` is empty where nobody says. `inputs` and `outputs` are in words. `paid`: a partner's service runs
    it. `usage` is how often people use it; `model_bytes` the size of all its models, 0 where nobody says;
    `version` the oldest ComfyUI that runs it.
    """

    name: str
    origin: WorkflowOrigin
    title: str
    about: str = ""
    words: tuple[str, ...] = ()
    makes: Collection[str] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    paid: bool = False
    usage: int = 0
    model_bytes: int = 0
    version: str | None = None

    @property
    def whole_name(self) -> str:
        """Means this one even where others have the name too."""
        return f"{self.origin.value}:{self.name}"
