"""Workflows to pick, and forms made from their parameters."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import FilePayload, Locator, Page, expect

from tests.page.seen import Open, button, card, notice
from tests.support import graphs
from tests.support.sidecar import WORKFLOW, Sidecar, open_sidecar

pytestmark = pytest.mark.asyncio(loop_scope="package")

SEED = 2**63 + 1
"""More digits than a number of JavaScript holds."""

FOX: dict[str, Any] = {
    "1": {
        "class_type": "BridgeSlowImage",
        "inputs": {"width": 32, "height": 16, "color": 255, "steps": 3, "step_ms": 1, "seed": SEED},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "fox"}},
    "3": {
        "class_type": "PrimitiveString",
        "inputs": {"value": "a red fox"},
        "_meta": {"title": "Prompt"},
    },
    "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
}


@pytest_asyncio.fixture(loop_scope="package")
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    """Its engine has a saved workflow."""
    saved = tmp_path / "engine" / "user" / "default" / "workflows"
    saved.mkdir(parents=True)
    (saved / "Fox poster.json").write_text(json.dumps(FOX))
    (saved / "Broken.json").write_text(json.dumps({"1": {"class_type": "NoSuchNode", "inputs": {}}}))
    async with open_sidecar(tmp_path) as sidecar:
        yield sidecar


def picker(page: Page) -> Locator:
    return page.locator("#picker")


async def newest(sidecar: Sidecar) -> dict[str, Any]:
    job = (await sidecar("GET", "/v1/comfyui/workflows?limit=1")).body["workflows"][0]["workflowId"]
    return await sidecar.ended(job)


async def graph_of(sidecar: Sidecar, job: str) -> dict[str, Any]:
    return dict((await sidecar("GET", f"{WORKFLOW}/{job}/graph")).body["graph"])


async def test_a_saved_workflow_is_found_and_run_with_other_values_by_keyboard(
    sidecar: Sidecar, visit: Open
) -> None:
    page = await visit(sidecar.url, viewport={"width": 400, "height": 800})
    await page.locator("#pick").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#picker-search")).to_be_focused()
    await expect(picker(page).locator(".pick").first).to_contain_text("Fox poster")
    await expect(picker(page).locator('[data-name="Broken"]')).to_contain_text("It needs NoSuchNode")
    await page.keyboard.type("poster")
    await expect(picker(page).locator(".pick")).to_have_count(1)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    prompt = picker(page).locator("#input-prompt")
    await expect(prompt).to_be_focused()
    await expect(prompt).to_have_value("a red fox")
    await page.keyboard.press("Control+A")
    await page.keyboard.type("a blue cat")
    wide = "document.documentElement.scrollWidth"
    assert await page.evaluate(wide) == 400
    assert await page.evaluate("document.querySelector('#picker').scrollWidth") < 400
    await picker(page).locator("#input-seed-random").uncheck()
    await expect(picker(page).locator("#input-seed")).to_have_value("")
    await button(picker(page), "Run").press("Enter")
    await expect(notice(page, "good")).to_contain_text("Fox poster: submitted as ")
    await expect(picker(page)).to_be_hidden()
    state = await newest(sidecar)
    graph = await graph_of(sidecar, state["workflowId"])
    assert graph["3"]["inputs"]["value"] == "a blue cat"
    assert graph["1"]["inputs"] == FOX["1"]["inputs"]
    await expect(card(page, state["workflowId"]).locator(".job-name")).to_have_text("Fox poster")


async def test_a_seed_is_new_each_time_and_variations_are_as_many_workflows(
    sidecar: Sidecar, visit: Open
) -> None:
    page = await visit(sidecar.url)
    await page.locator("#pick").click()
    await picker(page).locator('[data-name="Fox poster"]').click()
    await picker(page).locator("#input-width").fill("48")
    await picker(page).locator("#input-height").fill("")  # as it is
    await picker(page).locator("#picker-variations").fill("2")
    await picker(page).locator("#picker-priority").select_option("low")
    await button(picker(page), "Run").click()
    await expect(notice(page, "good")).to_be_visible()
    listed = (await sidecar("GET", "/v1/comfyui/workflows")).body["workflows"]
    assert [each["priority"] for each in listed] == ["low", "low"]
    made = [(await graph_of(sidecar, each["workflowId"]))["1"]["inputs"] for each in listed]
    assert [(each["width"], each["height"]) for each in made] == [(48, 16), (48, 16)]
    assert len({SEED, *(each["seed"] for each in made)}) == 3


async def test_what_is_wrong_stays_in_the_form_with_what_was_typed(sidecar: Sidecar, visit: Open) -> None:
    page = await visit(sidecar.url, viewport={"width": 400, "height": 300})
    await page.locator("#pick").click()
    await picker(page).locator('[data-name="upscale"]').click()
    await picker(page).locator("#input-scale").fill("5")
    await button(picker(page), "Run").click()
    await expect(picker(page).locator(".form-problem")).to_contain_text("needs image")
    await expect(picker(page).locator(".form-problem")).to_be_in_viewport()
    await expect(picker(page).locator("#input-scale")).to_have_value("5")
    await button(picker(page), "Other workflows").click()
    await expect(page.locator("#picker-search")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(picker(page)).to_be_hidden()


async def test_my_own_picture_is_uploaded_into_a_form(sidecar: Sidecar, visit: Open) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (20, 10), "orange").save(stream, "PNG")
    page = await visit(sidecar.url)
    await page.locator("#pick").click()
    await picker(page).locator('[data-name="upscale"]').click()
    await expect(picker(page).locator("#input-image")).to_be_focused()
    async with page.expect_file_chooser() as chooser:
        await button(picker(page), "Choose file").click()
    file = FilePayload(name="cat.png", mimeType="image/png", buffer=stream.getvalue())
    await (await chooser.value).set_files(file)
    await expect(picker(page).locator("#input-image")).to_have_value("cat.png")
    await picker(page).locator("#input-scale").fill("3")
    await button(picker(page), "Run").click()
    await expect(notice(page, "good")).to_be_visible()
    state = await newest(sidecar)
    data = (await sidecar("GET", state["outputs"][0]["url"])).data
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (60, 30)


async def test_an_output_is_the_input_of_another_workflow(sidecar: Sidecar, visit: Open) -> None:
    made = await sidecar.ended(await sidecar.submit(graphs.picture()))
    page = await visit(sidecar.url)
    await page.locator(".tile-frame").click()
    await button(page.locator("#viewer"), "Use as input").click()
    await expect(picker(page)).to_contain_text(made["outputs"][0]["filename"])
    await expect(picker(page).locator(".pick")).to_have_count(1)
    await picker(page).locator('[data-name="upscale"]').click()
    await expect(picker(page).locator("#input-image")).to_have_value(
        f"output:{made['outputs'][0]['outputId']}"
    )
    await button(picker(page), "Run").click()
    await expect(notice(page, "good")).to_be_visible()
    assert (await newest(sidecar))["status"] == "completed"


async def test_among_many_workflows_those_are_offered_that_may_take_the_output(
    sidecar: Sidecar, visit: Open, tmp_path: Path
) -> None:
    """The server looks into the first ones only."""
    saved = tmp_path / "engine" / "user" / "default" / "workflows"
    for number in range(60):
        (saved / f"A plain one {number}.json").write_text(json.dumps(graphs.picture()))
    await sidecar.ended(await sidecar.submit(graphs.picture()))
    page = await visit(sidecar.url)
    await page.locator("#pick").click()
    await expect(picker(page)).to_contain_text("There are more: say what it should do.")
    await page.keyboard.press("Escape")
    await page.locator(".tile-frame").click()
    await button(page.locator("#viewer"), "Use as input").click()
    await picker(page).locator("#picker-search").fill("upscale")
    await expect(picker(page).locator(".pick").first).to_have_attribute("data-name", "upscale")
    await picker(page).locator("#picker-search").fill("plain")
    await picker(page).locator('[data-name^="A plain one"]').first.click()
    await expect(picker(page)).to_contain_text("It takes no picture.")


async def test_an_ended_workflow_is_changed_and_run_again(sidecar: Sidecar, visit: Open) -> None:
    job = (await sidecar.ended(await sidecar.submit(graphs.text("one"))))["workflowId"]
    page = await visit(sidecar.url)
    await button(card(page, job), "Details").click()
    await button(page.locator("#details"), "Change and run").click()
    await expect(picker(page).locator("form")).to_be_visible()
    await button(picker(page), "Run").click()
    await expect(notice(page, "good")).to_be_visible()
    assert (await newest(sidecar))["workflowId"] != job
