"""The page for everybody: axe finds nothing, the keyboard is enough, no width breaks it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from comfy_mcp.domain.gpu import GpuDevice, GpuState, ThrottleReason
from comfy_mcp.gpu import monitor
from http_sidecar.pages.status_page import DIGEST
from tests.page.seen import Open, button, card, choose, complaints, endless, heard, notice
from tests.support import graphs
from tests.support.gpus import CARD, GIB, ScriptedDriver, reading
from tests.support.sidecar import Sidecar, open_sidecar

pytestmark = pytest.mark.asyncio(loop_scope="package")
CARDS = (
    CARD,
    replace(
        CARD,
        index=1,
        uuid="GPU-b",
        name="Hot <card>",
        temperature_celsius=91.0,
        temperature_limit_celsius=90.0,
        memory_used_bytes=23 * GIB,
        throttle_reasons=(ThrottleReason.HW_THERMAL,),
    ),
    GpuDevice(index=2, name="Lost card", uuid="GPU-c", state=GpuState.LOST, fault="GPU is lost"),
)


@pytest_asyncio.fixture(loop_scope="package")
async def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sidecar]:
    """Something of everything: outputs, a failure, one that runs, some that wait, GPUs with faults."""
    monkeypatch.setattr(monitor, "Nvml", lambda: ScriptedDriver(shows=reading(*CARDS)))
    monkeypatch.setattr(monitor, "SAMPLE_S", 0.05)
    async with open_sidecar(tmp_path) as sidecar:
        for graph in (graphs.picture(), graphs.text(), graphs.failing()):
            await sidecar.ended(await sidecar.submit(graph))
        running = await sidecar.submit(endless())
        await sidecar.until_running(running)
        for _ in range(3):
            await sidecar.submit(graphs.picture())
        yield sidecar


SAY = """async (digest) => {
  const { say } = await import(`/page/${digest}/notices.js`);
  say("Workflow a slept", "workflows slept");
  say("Workflow b slept", "workflows slept");
  say("Workflow x woke", "workflows woke");
}"""
"""The page's own voice, with three things at once."""


async def whole(visit: Open, busy: Sidecar, **options: Any) -> Page:
    page = await visit(busy.url, **options)
    await expect(page.locator(".machine")).to_have_count(4)
    await expect(page.locator(".tile")).to_have_count(2)
    await expect(page.locator("#active .job")).to_have_count(4)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_any_state(busy: Sidecar, visit: Open, scheme: str) -> None:
    page = await whole(visit, busy, color_scheme=scheme, bypass_csp=True)
    await choose(page, "bad.json", b"{}")
    await expect(notice(page, "bad")).to_be_visible()
    assert await complaints(page) == []
    await page.locator('#recent [data-status="failed"]').get_by_text("Details").click()
    await expect(page.locator("#details .facts")).to_be_visible()
    assert await complaints(page) == []
    await page.keyboard.press("Escape")
    await page.locator('.tile[data-kind="image"] button').click()
    await expect(page.locator("#viewer .stage img")).to_be_visible()
    assert await complaints(page) == []
    grounds = await page.evaluate(
        "() => getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    )
    assert (max(grounds) < 60) == (scheme == "dark")


async def test_axe_finds_nothing_at_the_door(tmp_path: Path, visit: Open) -> None:
    async with open_sidecar(tmp_path, http_key="the-key") as sidecar:
        page = await visit(sidecar.url, bypass_csp=True)
        await page.locator("#key-input").fill("wrong")
        await page.keyboard.press("Enter")
        await expect(page.locator("#key-error")).to_be_visible()
        assert await complaints(page) == []


async def test_machines_show_what_is_wrong_with_them(busy: Sidecar, visit: Open) -> None:
    page = await whole(visit, busy)
    fine, hot, lost = (
        page.locator(".machine", has_text=name) for name in ("GPU 0", "Hot <card>", "Lost card")
    )
    await expect(fine.locator(".badge")).to_have_text("OK")
    await expect(fine).to_contain_text("4.0 GiB of 24.0 GiB")
    await expect(hot.locator(".badge")).to_have_text("Look")
    for said in ("Memory is nearly full", "At its temperature limit"):
        await expect(hot).to_contain_text(said)
    await expect(lost.locator(".badge")).to_have_text("Lost")
    await expect(lost).to_contain_text("GPU is lost")


async def test_no_width_makes_it_scroll_sideways(busy: Sidecar, visit: Open) -> None:
    page = await whole(visit, busy)
    for width in (320, 390, 800, 1440, 2560):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= width


async def test_the_keyboard_is_enough_and_focus_stays_where_it_was(busy: Sidecar, visit: Open) -> None:
    page = await whole(visit, busy)
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.locator("#priority")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.locator("#choose")).to_be_focused()
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert await page.evaluate(outline) == "solid"
    await page.keyboard.press("Tab")
    await expect(page.locator("#pick")).to_be_focused()
    await page.keyboard.press("Tab")
    running = page.locator('#active [data-status="running"]')
    await expect(button(running, "Cancel")).to_be_focused()
    await page.keyboard.press("Tab")
    details = button(running, "Details")
    await page.keyboard.press("Enter")
    await expect(page.locator("#details")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(details).to_be_focused()
    job = str(await running.get_attribute("data-id"))
    await busy("DELETE", f"/v1/comfyui/workflow/{job}")
    await expect(page.locator("#recent").locator(f'[data-id="{job}"]')).to_be_visible()
    await expect(button(card(page, job), "Details")).to_be_focused()


async def test_it_speaks_of_ends_in_one_sentence_and_never_of_progress(busy: Sidecar, visit: Open) -> None:
    page = await whole(visit, busy)
    live = await page.locator("[role=status], [role=alert], [aria-live]").evaluate_all(
        "(all) => all.map((one) => one.id)"
    )
    assert sorted(live) == ["key-error", "says"]
    card = page.locator('#active [data-status="running"]')
    running = str(await card.get_attribute("data-id"))
    name = f"{await card.locator('.job-name').inner_text()} ({running[:8]})"
    await expect(page.get_by_role("button", name=f"Cancel workflow {name}")).to_be_visible()
    await busy("DELETE", f"/v1/comfyui/workflow/{running}")
    await heard(page, f"Workflow {name} cancelled")
    await expect(page.locator("#recent .job")).to_have_count(7)
    await page.evaluate(SAY, DIGEST)
    await heard(page, "2 workflows slept, Workflow x woke.")
    assert "%" not in " ".join(await page.evaluate("() => window.heard"))


async def test_nothing_moves_where_no_motion_is_wanted(busy: Sidecar, visit: Open) -> None:
    page = await whole(visit, busy, reduced_motion="reduce")
    moving = """() => [...document.querySelectorAll("*")].filter((one) => {
      const style = getComputedStyle(one);
      return style.transitionDuration !== "0s" || style.animationName !== "none";
    }).length"""
    assert await page.evaluate(moving) == 0
