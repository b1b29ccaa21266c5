"""Submitting, following, cancelling and retrying on the page."""

import asyncio
import base64
import json
import re
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from comfy_mcp.domain.ids import JobId
from tests.page.seen import DROP, Open, button, card, choose, endless, notice
from tests.support import graphs
from tests.support.browser import LIMIT_MS
from tests.support.held import held
from tests.support.jobs import GRAPH, queued_event
from tests.support.sidecar import WORKFLOW, Sidecar

pytestmark = pytest.mark.asyncio(loop_scope="package")
ODD = "<img src=x onerror=\"document.title='owned'\"> &amp; \u202eodd 💥"


def written(graph: Any) -> bytes:
    return json.dumps(graph).encode()


async def newest(sidecar: Sidecar) -> str:
    return str((await sidecar("GET", "/v1/comfyui/workflows?limit=1")).body["workflows"][0]["workflowId"])


async def loaded(page: Page, selector: str) -> None:
    """The picture has come, whole."""
    await page.wait_for_function("(s) => document.querySelector(s)?.naturalWidth > 0", arg=selector)


async def test_with_nothing_to_show_it_says_so(sidecar: Sidecar, visit: Open) -> None:
    page = await visit(sidecar.url)
    await expect(page.locator("#link")).to_have_text("Live")
    await expect(page.locator("#active")).to_have_text("No workflow is running or queued.")
    await expect(page.locator("#recent")).to_have_text("No workflow has ended yet.")
    await expect(page.locator("#outputs")).to_contain_text("No outputs yet.")
    await expect(page.locator("#machines .machine .badge").first).to_have_text("Up")
    await expect(page.locator("#machines")).to_contain_text("No GPU")


async def test_a_chosen_workflow_is_followed_to_its_picture(sidecar: Sidecar, visit: Open) -> None:
    page = await visit(sidecar.url)
    await page.locator("#priority").select_option("high")
    with held(at=30) as go_on:
        await choose(page, "slow.json", written(graphs.slow(steps=60, step_ms=20)))
        await expect(notice(page, "good")).to_contain_text("slow.json: submitted as ")
        job = await newest(sidecar)
        await expect(page.locator("#active").locator(f'[data-id="{job}"] .badge')).to_have_text("Running")
        some = "(s) => 0 < document.querySelector(s).value && document.querySelector(s).value < 100"
        await page.wait_for_function(some, arg=f'#active [data-id="{job}"] progress')
        go_on()
    await expect(page.locator("#recent").locator(f'[data-id="{job}"] .badge')).to_have_text("Completed")
    await expect(card(page, job)).to_contain_text("high priority")
    await loaded(page, ".tile img")
    await page.locator(".tile-frame").click()
    await loaded(page, "#viewer img")
    await button(page.locator("#viewer"), "Workflow").click()
    await expect(page.locator("#details-title")).to_have_text("slow")
    await expect(page.locator("#details .facts")).to_contain_text(job)
    await expect(page.locator("#details .tile")).to_have_count(1)


async def test_a_picture_that_the_engine_wrote_is_a_workflow(sidecar: Sidecar, visit: Open) -> None:
    first = await sidecar.ended(await sidecar.submit(graphs.picture()))
    picture = (await sidecar("GET", first["outputs"][0]["url"])).data
    page = await visit(sidecar.url)
    await expect(page.locator("#link")).to_have_text("Live")
    await page.evaluate(DROP, ["again.png", base64.b64encode(picture).decode()])
    await expect(notice(page, "good")).to_contain_text("again.png: submitted as ")
    again = await newest(sidecar)
    assert again != first["workflowId"]
    assert (await sidecar.ended(again))["status"] == "completed"
    graph_of = sidecar.services.store.get_graph
    assert await graph_of(JobId(again)) == await graph_of(JobId(first["workflowId"]))


async def test_what_will_not_run_beside_a_good_branch_is_listed(sidecar: Sidecar, visit: Open) -> None:
    wrong = {"width": "wide", "height": -1, "batch_size": 1, "color": 0}
    graph = {
        **graphs.picture(),
        "3": {"class_type": "EmptyImage", "inputs": wrong},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    page = await visit(sidecar.url)
    await choose(page, "half.json", written(graph))
    await expect(notice(page, "good").locator(".faults.warn li")).to_have_text(
        [re.compile("Output node 4 will not run: .*'width'"), re.compile("'height'")]
    )


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        (
            "typo.json",
            written({"1": {"class_type": "EmptyImagee", "inputs": {}}}),
            "graph_invalid",
            "EmptyImage",
        ),
        (
            "missing.json",
            written(
                {
                    "nodes": [
                        {"id": 1, "type": "Gone", "properties": {"cnr_id": "a-pack"}, "outputs": []},
                        {"id": 2, "type": "SaveImage", "inputs": [{"name": "images", "link": 1}]},
                        {"id": 3, "type": "EmptyImage", "inputs": [{"name": "width", "link": 9}]},
                    ],
                    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
                }
            ),
            "graph_invalid",
            re.compile(r"Missing class Gone \(nodes? 1; pack a-pack.*its link leads nowhere"),
        ),
        (
            "model.json",
            written(
                {
                    "1": {"class_type": "EmptyImage", "inputs": {}},
                    "2": {
                        "class_type": "SaveAnimatedWEBP",
                        "inputs": {"images": ["1", 0], "method": "gone.ckpt"},
                    },
                }
            ),
            "graph_invalid",
            re.compile(r"Missing model file gone.ckpt(?!.*gone\.ckpt)"),
        ),
        ("ui.json", written({"nodes": [], "links": []}), "graph_ui_format", ""),
        ("list.json", b"[1, 2]", "graph_invalid", "a JSON object"),
        ("notes.txt", b"not a workflow", "graph_invalid", "not valid JSON"),
        ("bare.gif", b"GIF89a", "graph_invalid", "gives no workflow"),
        (f"{ODD}.json", b"{", "graph_invalid", ODD),
    ],
    ids=["invalid", "missing", "model", "ui", "list", "text", "picture", "odd"],
)
async def test_what_is_refused_is_explained(
    sidecar: Sidecar, visit: Open, name: str, content: bytes, code: str, said: str | re.Pattern[str]
) -> None:
    page = await visit(sidecar.url)
    await choose(page, name, content)
    refused = notice(page, "bad")
    await expect(refused).to_contain_text(f"{name} was not submitted")
    await expect(refused.locator("code")).to_have_text(code)
    await expect(refused).to_contain_text(said)
    await expect(refused.locator(".next-step")).not_to_be_empty()
    await expect(refused.locator(".next-step")).not_to_contain_text("GET /")
    await expect(refused).to_have_attribute("role", "alert")
    await button(refused, "Close").click()
    await expect(refused).to_have_count(0)
    assert await page.title() == "comfy-mcp-bridge"


async def test_a_running_workflow_is_cancelled(sidecar: Sidecar, visit: Open) -> None:
    job = await sidecar.submit(endless())
    await sidecar.until_running(job)
    page = await visit(sidecar.url)
    cancel = button(card(page, job), "Cancel")
    await cancel.focus()
    await cancel.press("Enter")
    await expect(page.locator("#recent").locator(f'[data-id="{job}"] .badge')).to_have_text("Cancelled")
    await expect(button(card(page, job), "Cancel")).to_be_hidden()
    await expect(card(page, job)).to_be_focused()
    assert (await sidecar("GET", f"{WORKFLOW}/{job}")).body["status"] == "cancelled"


async def test_a_failed_workflow_shows_why_and_is_retried(sidecar: Sidecar, visit: Open) -> None:
    job = (await sidecar.ended(await sidecar.submit(graphs.failing(ODD))))["workflowId"]
    page = await visit(sidecar.url)
    failed = card(page, job)
    await expect(failed.locator(".job-cause")).to_contain_text(ODD)
    await expect(failed.locator(".job-cause")).to_contain_text("node 3, BridgeFail")
    await expect(failed.locator(".job-advice")).not_to_be_empty()
    await button(failed, "Details").click()
    details = page.locator("#details")
    await expect(details.locator(".full-cause")).to_contain_text(ODD)
    await button(details, "Retry").click()
    await expect(notice(page, "good")).to_contain_text("Submitted again as ")
    await expect(details).to_be_hidden()
    await expect(page.locator('#recent [data-status="failed"]')).to_have_count(2)
    again = await newest(sidecar)
    await expect(failed.locator(".job-facts")).to_contain_text(f"retried as {again[:8]}")
    assert await page.locator("main img").count() == 0
    assert await page.title() == "comfy-mcp-bridge"
    await page.locator("#recent-filter").select_option("completed")
    await expect(page.locator("#recent")).to_have_text("None completed.")
    await page.locator("#recent-filter").select_option("failed")
    await expect(page.locator("#recent .job")).to_have_count(2)


async def test_a_workflow_that_vanishes_while_shown_is_told(sidecar: Sidecar, visit: Open) -> None:
    jobs = [await sidecar.submit(graphs.failing()) for _ in range(3)]
    for job in jobs:
        await sidecar.ended(job)
    page = await visit(sidecar.url)
    await expect(page.locator("#recent .job")).to_have_count(3)
    far = sidecar.services.now_ms() + 10**10
    assert await sidecar.services.store.prune(now=far, retention_days=1, retention_jobs=0) == 3
    await button(card(page, jobs[0]), "Retry").click()
    await expect(notice(page, "bad").locator("code")).to_have_text("workflow_not_found")
    await expect(card(page, jobs[0])).to_have_count(0)
    await button(card(page, jobs[1]), "Details").click()
    await expect(page.locator("#details")).to_contain_text("no longer exists")
    await page.keyboard.press("Escape")
    await expect(page.locator("#details")).to_be_hidden()
    await expect(card(page, jobs[1])).to_have_count(0)
    await sidecar.submit(graphs.text())  # the next event has the lists asked for again
    await expect(page.locator("#recent .job")).to_have_count(1)


async def test_texts_are_texts(sidecar: Sidecar, visit: Open) -> None:
    graph = graphs.text(ODD)
    await sidecar.ended(await sidecar.submit(graph))
    slow = endless()
    slow["1"]["_meta"]["title"] = ODD
    job = await sidecar.submit(slow)
    page = await visit(sidecar.url)
    await expect(page.locator(".tile-text")).to_contain_text(ODD)
    await expect(card(page, job).locator(".job-facts")).to_contain_text(ODD)
    await page.locator(".tile-frame").click()
    await expect(page.locator("#viewer pre")).to_contain_text(ODD)
    assert await page.locator("main img:not(.job-thumb img), #viewer img").count() == 0
    assert "owned" not in await page.title()


async def test_thousands_of_workflows_are_counted_and_not_drawn(sidecar: Sidecar, visit: Open) -> None:
    ended = await sidecar.submit(graphs.picture())
    await sidecar.ended(ended)
    running = await sidecar.submit(endless())
    await sidecar.until_running(running)
    page = await visit(sidecar.url)
    await expect(card(page, running)).to_be_visible()
    add = sidecar.services.store.add_job
    async with asyncio.TaskGroup() as group:
        for _ in range(2_500):
            group.create_task(add(queued_event(), GRAPH, max_queued=10_000))
    await expect(page.locator("#active-more")).to_contain_text("2,490 more wait", timeout=LIMIT_MS)
    await expect(page.locator("#totals")).to_have_text("1 running · 2,500 waiting")
    await expect(page.locator("#recent").locator(f'[data-id="{ended}"]')).to_be_visible()
    assert await page.locator(".job").count() == 12
    assert await page.evaluate("document.getElementsByTagName('*').length") < 1_000


async def test_one_that_waits_says_why(sidecar: Sidecar, visit: Open) -> None:
    first = await sidecar.submit(endless())
    await sidecar.until_running(first)
    second = await sidecar.submit(endless())
    after = await sidecar("POST", WORKFLOW, json={"workflow": graphs.picture(), "after": [first]})
    page = await visit(sidecar.url)
    await expect(card(page, second)).to_contain_text("Ahead of it: 1 yours")
    held = card(page, after.body["workflowId"])
    await expect(held).to_contain_text(f"Waits for the end of slow ({first[:8]}).")
    await page.locator("#link").wait_for()
    await expect(held.locator(".badge")).to_have_text("Queued")
    await sidecar("DELETE", f"{WORKFLOW}/{second}")
    await sidecar("DELETE", f"{WORKFLOW}/{first}")


async def test_a_cancel_is_shown_before_it_is_answered(sidecar: Sidecar, visit: Open) -> None:
    """An engine that hangs is waited for."""
    running = await sidecar.submit(endless())
    page = await visit(sidecar.url)
    unanswered = asyncio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "DELETE":
            await unanswered.wait()
        await route.continue_()

    await page.route(f"**/workflow/{running}", hold)
    await expect(card(page, running).locator(".badge")).to_have_text("Running")
    await button(card(page, running), "Cancel").click()
    await expect(card(page, running).locator(".badge")).to_have_text("Stopping")
    unanswered.set()
    await expect(card(page, running).locator(".badge")).to_have_text("Cancelled")


async def test_what_is_known_of_a_failure_so_far_is_in_words_for_people(
    sidecar: Sidecar, visit: Open
) -> None:
    page = await visit(sidecar.url)
    running = await sidecar.submit(endless())
    job = await sidecar.submit(graphs.failing())
    await expect(card(page, job).locator(".badge")).to_have_text("Queued")
    await page.route("**/v1/comfyui/**", lambda route: route.abort())  # only its stream is left
    await sidecar("DELETE", f"{WORKFLOW}/{running}")
    await expect(card(page, job).locator(".badge")).to_have_text("Failed")
    assert "GET /v1" not in await card(page, job).inner_text()
