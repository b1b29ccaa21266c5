"""Whatever way a workflow with very many values comes, no work in proportion to them is done on the loop.

Counted are the lines of the product that run on the loop without a turn for others.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import comfy_mcp
from comfy_mcp.checking import checker
from comfy_mcp.domain import large_json
from comfy_mcp.driving import claiming
from tests.hostile.test_large_json import CALLS, all_end
from tests.support import graphs
from tests.support.sidecar import open_sidecar

PRODUCT = str(Path(comfy_mcp.__file__).parent)
VALUES = 12_000
LINES = VALUES // 2
"""Of one step of the loop: less than a single look at each value takes."""


def wide() -> dict[str, Any]:
    """A graph of few nodes with very many values."""
    graph = graphs.picture()
    graph["1"]["inputs"] |= {f"x{at}": at for at in range(VALUES)}
    return graph


@contextmanager
def lines_counted() -> Iterator[list[tuple[int, list[tuple[str, int]]]]]:
    """The longest steps of this thread's loop: how many lines, and of which functions."""
    found: list[tuple[int, list[tuple[str, int]]]] = []
    step: Counter[str] = Counter()

    def line(frame: FrameType, event: str, _arg: object) -> Any:
        step[f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"] += event == "line"
        return line

    def call(frame: FrameType, _event: str, _arg: object) -> Any:
        name = frame.f_code.co_filename
        return line if name.startswith(PRODUCT) and "/embedded/" not in name else None

    run = asyncio.events.Handle._run

    def counted(handle: asyncio.events.Handle) -> None:
        step.clear()
        run(handle)
        if step.total() > LINES:
            found.append((step.total(), step.most_common(3)))

    before = sys.gettrace()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncio.events.Handle, "_run", counted)
        sys.settrace(call)
        try:
            yield found
        finally:
            sys.settrace(before)


@pytest.mark.parametrize("way", ["an object", "a text", "with inputs", "several", "with an idempotency key"])
async def test_no_walk_over_a_large_workflow_on_the_loop(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.hostile.test_large_json.graph", wide)
    monkeypatch.setattr(large_json, "LARGE_BYTES", 100_000)
    monkeypatch.setattr(large_json, "LARGE_VALUES", 1_000)
    monkeypatch.setattr(claiming, "THREAD_BYTES", 100_000)
    monkeypatch.setattr(checker, "INLINE_BYTES", 100_000)
    path, call = CALLS[way]
    asked = call()
    async with open_sidecar(tmp_path) as sidecar:
        with lines_counted() as found:
            answer = await sidecar("POST", path, **asked)
            assert answer.status in {200, 202}, answer.data
            await all_end(sidecar)
    assert found == []
