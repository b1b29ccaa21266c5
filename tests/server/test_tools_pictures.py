"""The picture beside the answer of a wait."""

import asyncio
from typing import Any

import pytest

from comfy_mcp.domain.catalog import OutputKind
from comfy_mcp.operations.shapes import OutputItem, WorkflowResult
from comfy_mcp.server import tools
from tests.operations.conftest import CALLER


def moving(name: str, kind: OutputKind) -> dict[str, Any]:
    """What a wait says of a workflow that ended with one output."""
    output: dict[str, Any] = {"type": kind.value, "filename": name, "output_id": "o1"}
    return {"status": "completed", "outputs": [OutputItem.model_construct(**output)]}


class OneView:
    """Stands for the bridge: it says what was asked for, or never answers."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def call(self, name: str, arguments: dict[str, Any], *, caller: Any) -> Any:
        self.asked.append((name, arguments))
        if not self.answers:
            await asyncio.get_running_loop().create_future()
        return "the picture"


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("a.png", OutputKind.IMAGE, True),
        ("a.mp4", OutputKind.VIDEO, True),
        ("a.flac", OutputKind.AUDIO, True),
        ("a.txt", OutputKind.TEXT, False),
        ("a.glb", OutputKind.MODEL3D, False),
    ],
)
async def test_a_wait_shows_whatever_has_a_picture(name: str, kind: OutputKind, shown: bool) -> None:
    bridge: Any = OneView()
    found = await tools._shown(bridge, CALLER, WorkflowResult.model_construct(**moving(name, kind)))
    assert (found is not None) == shown
    assert bool(bridge.asked) == shown


async def test_a_wait_ends_without_the_picture_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "PICTURE_S", 0.0)
    bridge: Any = OneView(answers=False)
    state = WorkflowResult.model_construct(**moving("a.mp4", OutputKind.VIDEO))
    assert await tools._shown(bridge, CALLER, state) is None
    assert bridge.asked == [("view_output", {"output_id": "o1", "max_px": tools.SHOWN_PX})]
