"""Jobs that wait for others, and what becomes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from comfy_mcp.domain.ids import JobId

MAX_PARENTS = 64
"""Jobs that one job waits for: as many as a batch has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A job that another one waits for. `any_end`: the other runs whatever becomes of it. `outputs`: how many
    outputs it must have made; the other takes the last of these."""

    id: JobId
    any_end: bool = False
    outputs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentNow:
    """What has become of it. `name` is for people."""

    ended: bool
    completed: bool
    status: str
    outputs: int = 0
    name: str | None = None


class Verdict(StrEnum):
    WAITS = "waits"
    RUNS = "runs"
    FAILS = "fails"


def decide(after: Sequence[Parent], now: Mapping[JobId, ParentNow]) -> tuple[Verdict, str]:
    """What follows for a job that waits, with the cause where it fails. One that is not in `now` was deleted.

    The first parent that can't be waited for any more is enough.
    """
    for parent in after:
        cause = _cause(parent, now.get(parent.id))
        if cause:
            return Verdict.FAILS, cause
    if all(now[parent.id].ended for parent in after if parent.id in now):
        return Verdict.RUNS, ""
    return Verdict.WAITS, ""


def _cause(parent: Parent, now: ParentNow | None) -> str:
    """Why the job can't run any more because of this parent; empty: it can."""
    if now is None:
        if parent.any_end and not parent.outputs:
            return ""
        return f"Workflow {parent.id}, which this one waits for, no longer exists."
    if not now.ended:
        return ""
    name = f" ({now.name})" if now.name else ""
    if not now.completed and not parent.any_end:
        became = "failed" if now.status == "failed" else f"was {now.status}"
        return f"Workflow {parent.id}{name}, which this one waits for, {became}."
    if now.outputs < parent.outputs:
        return (
            f"Workflow {parent.id}{name} made {now.outputs} output(s), and this one takes number "
            f"{parent.outputs}."
        )
    return ""


def replaced(after: Sequence[Parent], instead: Mapping[JobId, JobId]) -> tuple[Parent, ...]:
    """With other jobs in the place of some, each once."""
    found: dict[JobId, Parent] = {}
    for parent in after:
        new = instead.get(parent.id, parent.id)
        known = found.get(new, Parent(id=new, any_end=True))
        found[new] = Parent(
            id=new,
            any_end=known.any_end and parent.any_end,
            outputs=max(known.outputs, parent.outputs),
        )
    return tuple(found.values())
