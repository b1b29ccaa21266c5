"""A batch on the page: one card for all of its workflows, on a phone and by keyboard too."""

import pytest
from playwright.async_api import Locator, Page, ViewportSize, expect

from tests.page.seen import Open, button, card, complaints, endless
from tests.support.sidecar import WORKFLOW, Sidecar

pytestmark = pytest.mark.asyncio(loop_scope="package")

PHONE: ViewportSize = {"width": 400, "height": 800}
LONG = "FoxesInTheSnow" * 7
"""No place to break it."""

TARGET = 24
"""Pixels that a finger needs at least (WCAG 2.2)."""


async def batch_of(sidecar: Sidecar, count: int, name: str) -> str:
    """Its id, once its first runs."""
    body = {"workflow": endless(), "variations": count, "name": name}
    answer = await sidecar("POST", WORKFLOW, json=body)
    await sidecar.until_running(answer.body["workflowIds"][0])
    return str(answer.body["workflowId"])


async def tab_to(page: Page, target: Locator) -> None:
    """As a person without a mouse: forward from the beginning of the page."""
    await page.evaluate("document.activeElement?.blur()")
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await target.evaluate("(one) => one === document.activeElement"):
            return
    raise AssertionError(f"{target} cannot be reached")


async def test_a_batch_is_one_card_and_is_cancelled_as_one(sidecar: Sidecar, visit: Open) -> None:
    answer = await sidecar("POST", WORKFLOW, json={"workflow": endless(), "variations": 3, "name": "Foxes"})
    batch = answer.body["workflowId"]
    await sidecar.until_running(answer.body["workflowIds"][0])
    page = await visit(sidecar.url)
    shown = card(page, batch)
    await expect(shown.locator(".job-name")).to_have_text("Foxes")
    await expect(shown).to_contain_text("3 workflows: 1 running, 2 queued")
    await expect(page.locator(".job")).to_have_count(1)
    await expect(page.locator("#totals")).to_have_text("1 running · 2 waiting")
    await expect(page.locator("#active-more")).to_be_hidden()
    await button(shown, "Cancel").click()
    await expect(page.locator("#recent").locator(f'[data-id="{batch}"] .badge')).to_have_text("Cancelled")
    await expect(page.locator("#recent .job")).to_have_count(1)


async def test_a_batch_fits_a_phone_and_its_buttons_fit_a_finger(sidecar: Sidecar, visit: Open) -> None:
    batch = await batch_of(sidecar, 40, LONG)
    page = await visit(sidecar.url, viewport=PHONE, bypass_csp=True)
    shown = card(page, batch)
    await expect(shown).to_contain_text("40 workflows: 1 running, 39 queued")
    assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    for each in await shown.locator("button:visible").all():
        box = await each.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
        assert min(box["width"], box["height"]) >= TARGET
    assert await complaints(page) == []
    await sidecar("DELETE", f"{WORKFLOW}/{batch}")


async def test_a_batch_is_looked_into_cancelled_and_retried_by_keyboard(
    sidecar: Sidecar, visit: Open
) -> None:
    batch = await batch_of(sidecar, 3, "Foxes")
    page = await visit(sidecar.url, viewport=PHONE, bypass_csp=True)
    details = button(card(page, batch), "Details")
    await tab_to(page, details)
    await page.keyboard.press("Enter")
    await expect(page.locator("#details-title")).to_have_text("Foxes")
    await expect(page.locator("#details")).to_contain_text("3 workflows: 1 running, 2 queued")
    assert await complaints(page) == []
    await page.keyboard.press("Escape")
    await expect(details).to_be_focused()
    await tab_to(page, button(card(page, batch), "Cancel"))
    await page.keyboard.press("Enter")
    ended = page.locator("#recent").locator(f'[data-id="{batch}"]')
    await expect(ended.locator(".badge")).to_have_text("Cancelled")
    await tab_to(page, button(ended, "Retry"))
    await page.keyboard.press("Enter")
    again = page.locator("#active .job", has_text="3 workflows")
    await expect(again).to_be_visible()
    await expect(page.locator("#active .job")).to_have_count(1)
    assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    await sidecar("DELETE", f"{WORKFLOW}/{await again.get_attribute('data-id')}")
