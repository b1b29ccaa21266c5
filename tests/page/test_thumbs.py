"""Pictures on the cards: the preview of a workflow that runs, the first picture of one that has ended."""

import pytest
from playwright.async_api import Page, Route, expect

from tests.page.seen import Open, card, endless
from tests.support import graphs
from tests.support.held import held
from tests.support.sidecar import WORKFLOW, Sidecar

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def shown(page: Page, job: str) -> None:
    """The picture on the card has come, whole."""
    await page.wait_for_function(
        "(s) => document.querySelector(s)?.naturalWidth > 0", arg=f'.job[data-id="{job}"] .job-thumb img'
    )


async def test_a_running_workflow_shows_its_preview_and_then_what_it_made(
    sidecar: Sidecar, visit: Open
) -> None:
    running = await sidecar.submit(endless())
    await sidecar.until_running(running)
    page = await visit(sidecar.url)
    await shown(page, running)
    picture = card(page, running).locator(".job-thumb img")
    first = await picture.get_attribute("src")
    await expect(picture).not_to_have_attribute("src", first or "")  # the next one has come
    answer = await sidecar("GET", f"{WORKFLOW}/{running}/preview")
    assert answer.headers["Content-Type"] == "image/jpeg"
    await sidecar("DELETE", f"{WORKFLOW}/{running}")
    await expect(page.locator("#recent").locator(f'[data-id="{running}"]')).to_be_visible()
    await expect(picture).to_have_count(0)
    made = (await sidecar.ended(await sidecar.submit(graphs.picture())))["workflowId"]
    await shown(page, made)
    assert await page.evaluate("document.querySelectorAll('.job-thumb img').length") == 1


async def test_a_text_has_no_picture(sidecar: Sidecar, visit: Open) -> None:
    job = (await sidecar.ended(await sidecar.submit(graphs.text())))["workflowId"]
    page = await visit(sidecar.url)
    await expect(card(page, job)).to_be_visible()
    await expect(card(page, job).locator(".job-thumb")).to_be_hidden()


async def test_one_that_had_no_preview_shows_what_it_made_at_once(sidecar: Sidecar, visit: Open) -> None:
    page = await visit(sidecar.url)
    await page.route("**/preview", lambda route: route.fulfill(status=404, json={}))
    await page.evaluate("performance.now = () => 1")  # the time to ask for a preview again never comes
    with held() as go_on:
        async with page.expect_response("**/preview"):
            job = await sidecar.submit(graphs.slow(steps=10))
        go_on()
    await sidecar.ended(job)
    await shown(page, job)


async def test_previews_leave_most_requests_to_what_must_stay_fresh(sidecar: Sidecar, visit: Open) -> None:
    """Of the minute's requests half are left: no preview is asked for, however much is drawn."""
    page, asked = await visit(sidecar.url), []
    left = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "50", "X-RateLimit-Reset": "3600"}

    async def answer(route: Route) -> None:
        asked.append(route.request.url)
        await route.fulfill(status=404, json={}, headers=left)

    await page.route("**/v1/**", lambda route: route.abort())  # whose headers would say something else
    await page.route("**/preview", answer)
    running = await sidecar.submit(endless())
    await expect(card(page, running).locator(".badge")).to_have_text("Running")
    await page.evaluate("performance.now = () => 1e9")  # whatever is due is due
    drawn = "(s) => document.querySelector(s).value > 5"
    await page.wait_for_function(drawn, arg=f'.job[data-id="{running}"] progress')
    assert len(asked) <= 1
