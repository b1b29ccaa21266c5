"""docs/failures.md has every kind of failure, and every reason for which a workflow waits."""

import re
from pathlib import Path
from typing import get_args

from comfy_mcp.domain.events import FailureKind
from comfy_mcp.operations.shapes.jobs import WaitingForItem

DOCUMENT = (Path(__file__).parents[1] / "docs" / "failures.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> list[str]:
    """Of the table below the heading, what its rows are about."""
    section = DOCUMENT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_every_kind_of_failure_has_a_row() -> None:
    assert sorted(first_cells("Failure kinds")) == sorted(FailureKind)


def test_every_reason_to_wait_has_a_row() -> None:
    reasons = get_args(WaitingForItem.model_fields["reason"].annotation)
    assert sorted(first_cells("When a workflow does not start")) == sorted(reasons)
