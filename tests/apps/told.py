"""What a host tells the view, and what is then seen."""

import asyncio
from typing import Any

from playwright.async_api import Locator

from tests.support.mcp_surface import LIMIT_S, slow_graph


def graph(*, seconds: float = 0.1, seed: int = 0) -> dict[str, Any]:
    return slow_graph(steps=max(1, round(seconds / 0.1)), step_ms=100, seed=seed)


def output(name: str, **facts: Any) -> dict[str, Any]:
    """As list_outputs tells of one."""
    known = {"outputId": name, "filename": name, "workflowId": "w", "type": "image", "size": 10}
    return known | {"createdAt": 0, "url": "", "uri": f"comfy://outputs/{name}"} | facts


def job(status: str, **facts: Any) -> dict[str, Any]:
    """As workflow_status tells of one."""
    known = {"workflowId": "w-1", "status": status, "progress": 0, "outputs": [], "client": "me"}
    return known | facts


def result(**structured: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": "as text"}], "structuredContent": structured}


async def progress(bar: Locator) -> float:
    return float(await bar.evaluate("bar => bar.value"))


async def grown(bar: Locator, from_: float) -> float:
    """Waits until the bar shows more."""
    async with asyncio.timeout(LIMIT_S):
        while (now := await progress(bar)) <= from_:
            await bar.page.wait_for_function(
                "n => heard.length > n", arg=await bar.page.evaluate("heard.length")
            )
    return now
