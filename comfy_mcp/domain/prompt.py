"""A prompt's end, as the engine's history shows it."""

from dataclasses import dataclass
from enum import StrEnum

from comfy_mcp.domain.catalog import OutputFile
from comfy_mcp.domain.events import JobFailure


class PromptEnding(StrEnum):
    SUCCESS = "success"
    ERROR = "error"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptResult:
    """A prompt's history entry. `outputs` may be non-empty for failed runs too. `ran_ms`: how
    long it ran, where the place says so."""

    ending: PromptEnding
    outputs: tuple[OutputFile, ...]
    failure: JobFailure | None = None
    ran_ms: int | None = None
