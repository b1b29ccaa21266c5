"""The gallery and what it opens: every kind of file, odd names, what is broken or gone."""

import io
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image
from playwright.async_api import Page, expect

from comfy_mcp.domain.catalog import OutputKind
from tests.page.seen import Open, button, card
from tests.support.files_engine import OutputHouse, open_output_house
from tests.support.graphs import picture
from tests.support.sidecar import open_sidecar

pytestmark = pytest.mark.asyncio(loop_scope="package")
ODD = "a <b>&\"' \u202e\u00e9💥.png"


def png(color: str = "teal") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (640, 400), color).save(stream, "PNG")
    return stream.getvalue()


def sound() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(1)
        written.setframerate(8_000)
        written.writeframes(bytes(8_000))
    return stream.getvalue()


@pytest_asyncio.fixture(loop_scope="package")
async def house(tmp_path: Path) -> AsyncIterator[OutputHouse]:
    async with open_output_house(tmp_path) as house:
        yield house


async def opened(page: Page, name: str) -> None:
    await page.locator(".tile", has=page.get_by_text(name, exact=True)).locator(".tile-frame").click()
    await expect(page.locator("#viewer-title")).to_have_text(name)


async def test_each_kind_is_shown_as_what_it_is(house: OutputHouse, visit: Open) -> None:
    await house.add(ODD, png())
    await house.add("broken.png", b"\x89PNG\r\n\x1a\nno more")
    await house.add("gone.png", None)
    await house.add("tone.wav", sound(), kind=OutputKind.AUDIO)
    await house.add("page.html", b"<script>document.title = 'owned'</script>", kind=OutputKind.FILE)
    page = await visit(house.v1.url)
    viewer = page.locator("#viewer")
    await expect(page.locator(".tile")).to_have_count(5)
    await expect(page.locator(".tile[data-preview=shown]")).to_have_count(1)
    await expect(page.locator(".tile[data-preview=none]")).to_have_count(2)

    await opened(page, ODD)
    await page.wait_for_function("() => document.querySelector('#viewer img')?.naturalWidth === 640")
    async with page.expect_download() as saving:
        await viewer.get_by_text("Save").click()
    assert await (await saving.value).path() is not None
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("#viewer-title")).to_have_text("broken.png")
    await button(viewer, "Newer").click()
    await expect(viewer.locator("code")).to_have_text("output_gone")
    await expect(button(viewer, "Newer")).to_be_focused()
    await button(viewer, "Newer").press("Enter")
    await page.wait_for_function("() => document.querySelector('#viewer audio')?.duration === 1")
    await button(viewer, "Newer").press("Enter")
    await expect(viewer.locator(".stage")).to_contain_text("can't show this kind")
    await expect(button(viewer, "Newer")).to_be_disabled()
    await expect(button(viewer, "Older")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(viewer).to_be_hidden()
    assert await page.title() == "comfy-mcp-bridge"


async def test_an_older_picture_opens_after_a_newer_one_has_come(house: OutputHouse, visit: Open) -> None:
    await house.add("old.png", png())
    page = await visit(house.v1.url)
    await expect(page.locator(".tile")).to_have_count(1)
    await house.add("new.png", png())
    await expect(page.locator(".tile")).to_have_count(2)
    await opened(page, "old.png")
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("#viewer-title")).to_have_text("new.png")


async def test_a_picture_is_the_same_on_its_card_in_the_details_and_in_the_gallery(
    tmp_path: Path, visit: Open
) -> None:
    """By its id: each refresh makes new objects for the same outputs, and two files may have one name."""
    async with open_sidecar(tmp_path) as sidecar:
        jobs = {}
        for color in (0xFF0000, 0x00FF00, 0x0000FF):
            graph = picture()
            graph["1"]["inputs"]["color"] = color
            jobs[color] = await sidecar.ended(await sidecar.submit(graph))
        page = await visit(sidecar.url)
        await expect(page.locator(".tile[data-preview=shown]")).to_have_count(3)
        oldest, *_, newest = jobs.items()
        for color, job in (oldest, newest):
            output = job["outputs"][0]
            await page.wait_for_function(
                SHOWS, arg=[f'.job[data-id="{job["workflowId"]}"] .job-thumb img', color]
            )
            await button(card(page, job["workflowId"]), "Details").click()
            details = page.locator("#details")
            await expect(details.locator(".tile[data-preview=shown]")).to_have_count(1)
            later = await sidecar.ended(await sidecar.submit(picture()))  # everything is drawn anew
            await expect(
                page.locator("#outputs .tile", has_text=later["outputs"][0]["filename"])
            ).to_have_count(1)
            await page.wait_for_function(SHOWS, arg=["#details .tile img", color])
            await details.locator(".tile-frame").click()
            await expect(page.locator("#viewer-title")).to_have_text(output["filename"])
            await page.wait_for_function(SHOWS, arg=["#viewer img", color])
            await page.keyboard.press("Escape")
            await opened(page, output["filename"])
            await page.wait_for_function(SHOWS, arg=["#viewer img", color])
            await page.keyboard.press("Escape")


SHOWS = """([selector, color]) => {
  const image = document.querySelector(selector);
  if (!image?.naturalWidth) return false;
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  canvas.drawImage(image, 0, 0, 1, 1);
  const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
  return [16, 8, 0].every((by, place) => Math.abs([red, green, blue][place] - ((color >> by) & 255)) < 32);
}"""
"""Whether the picture there is of that color."""


async def test_what_is_out_of_sight_is_not_fetched_and_older_ones_come_when_asked_for(
    house: OutputHouse, visit: Open
) -> None:
    for place in range(30):
        await house.add(f"p{place:02}.png", png())
    asked: list[str] = []
    page = await visit(house.v1.url, viewport={"width": 390, "height": 600})
    await page.goto("about:blank")  # what the first visit asked for is not counted
    page.on("request", lambda request: asked.append(request.url) if "/preview" in request.url else None)
    await page.goto(f"{house.v1.url}/")
    await expect(page.locator(".tile")).to_have_count(24)
    await page.locator(".tile").first.scroll_into_view_if_needed()
    await expect(page.locator(".tile").first).to_have_attribute("data-preview", "shown")
    assert 0 < len(asked) < 20
    await page.locator("#outputs-more").click()
    await expect(page.locator(".tile")).to_have_count(30)
    await expect(page.locator("#outputs-more")).to_be_hidden()
    names = await page.locator(".tile-name").all_text_contents()
    assert names == [f"p{place:02}.png" for place in reversed(range(30))]
    assert len(asked) == len(set(asked))
