"""Getting in with a key, and what the page says when it or the service goes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page, expect

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS, ApiKey, Right, digest_of
from comfy_mcp.operations.bridge import Bridge
from http_sidecar import api_keys
from http_sidecar.api_keys import KeyRing
from http_sidecar.app import build_app
from http_sidecar.bounds import Bounds
from http_sidecar.process.runner import Runner
from tests.page.seen import Open, button, card, choose, endless, heard, notice
from tests.support import graphs
from tests.support.sidecar import Sidecar, open_sidecar

pytestmark = pytest.mark.asyncio(loop_scope="package")
KEYS = {"alice": DEFAULT_KEY_RIGHTS, "viewer": frozenset({Right.READ})}
"""Clients with a key, which is their name followed by `-key`."""


@pytest_asyncio.fixture(loop_scope="package")
async def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sidecar]:
    """A sidecar that asks for a key, and hears at once of one that was revoked."""
    monkeypatch.setattr(api_keys, "REFRESH_S", 0.02)
    async with open_sidecar(tmp_path) as sidecar:
        for name, rights in KEYS.items():
            key = ApiKey(name=name, digest=digest_of(f"{name}-key"), rights=rights, created_at=0)
            await sidecar.services.store.add_key(key)
        yield sidecar


async def enter(page: Page, key: str) -> None:
    await page.locator("#key-input").fill(key)
    await page.keyboard.press("Enter")


async def test_the_key_is_asked_for_once_and_never_stands_in_an_address(locked: Sidecar, visit: Open) -> None:
    headers = {"X-API-Key": "alice-key"}
    job = await locked.submit(graphs.picture(), headers=headers)
    await locked.ended(job, headers=headers)
    page = await visit(locked.url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await expect(page.locator("#key-input")).to_be_focused()
    await expect(page.locator("#board")).to_be_hidden()
    await expect(page.locator("#key-error")).to_be_hidden()
    for wrong, said in (
        ("bob-key", "This key is not accepted."),
        ("schlüssel", "A key can't contain these characters."),
    ):
        await enter(page, wrong)
        await expect(page.locator("#key-error")).to_have_text(said)
        await expect(page.locator("#key-input")).to_have_attribute("aria-invalid", "true")
    await enter(page, " alice-key ")
    await expect(card(page, job)).to_be_visible()
    await expect(page.locator(".tile[data-preview=shown]")).to_have_count(1)
    await page.reload()
    await expect(card(page, job)).to_be_visible()
    assert [url for url in asked if "-key" in url] == []
    assert await page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    await page.get_by_role("button", name="Forget key").click()
    await expect(page.locator("#key-input")).to_be_focused()
    assert await page.evaluate("sessionStorage.length") == 0
    assert await page.locator(".job, .tile, .machine").count() == 0


async def test_a_key_that_is_revoked_ends_the_visit(locked: Sidecar, visit: Open) -> None:
    headers = {"X-API-Key": "alice-key"}
    job = (await locked.ended(await locked.submit(graphs.failing(), headers=headers), headers=headers))[
        "workflowId"
    ]
    page = await visit(locked.url)
    await enter(page, "alice-key")
    await button(card(page, job), "Details").click()
    await expect(page.locator("#details .full-cause")).to_be_visible()
    assert await locked.services.store.revoke_key("alice", at=1)
    await expect(page.locator("#key-error")).to_have_text("The key is no longer accepted. Enter another.")
    await expect(page.locator("#details")).to_be_hidden()
    assert await page.locator(".job").count() == 0
    await enter(page, "viewer-key")
    await expect(page.locator("#recent")).to_have_text("No workflow has ended yet.")


async def test_what_a_key_may_not_do_is_said(locked: Sidecar, visit: Open) -> None:
    page = await visit(locked.url)
    await enter(page, "viewer-key")
    await choose(page, "picture.json", b'{"1": {"class_type": "EmptyImage", "inputs": {}}}')
    await expect(notice(page, "bad").locator("code")).to_have_text("forbidden")
    await expect(notice(page, "bad")).to_contain_text("submit")


@asynccontextmanager
async def served_again(sidecar: Sidecar, port: int = 0) -> AsyncIterator[int]:
    """The sidecar's application once more, as the product serves it: its port."""
    settings, services = sidecar.settings, sidecar.services
    app = build_app(Bridge(services), settings, keys=KeyRing(settings, services.store))
    runner = Runner(app, send_timeout_s=Bounds().send_timeout_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def test_a_service_that_goes_and_comes_back_is_told_and_nothing_is_missed(
    sidecar: Sidecar, visit: Open
) -> None:
    job = await sidecar.submit(endless())
    await sidecar.until_running(job)
    async with served_again(sidecar) as port:
        page = await visit(f"http://127.0.0.1:{port}")
        await expect(card(page, job).locator(".badge")).to_have_text("Running")
    await expect(page.locator("#link")).to_have_text("Not connected")
    await expect(page.locator("#banner")).to_contain_text("The server does not answer.")
    await expect(page.locator("#banner")).to_contain_text("What you see is from ")
    await heard(page, "The server does not answer.")
    await expect(card(page, job)).to_be_visible()
    await button(card(page, job), "Cancel").click()
    await expect(notice(page, "bad").locator("code")).to_have_text("unreachable")
    await sidecar("DELETE", f"/v1/comfyui/workflow/{job}")
    await sidecar.ended(job)
    async with served_again(sidecar, port):
        await button(page.locator("#banner"), "Try now").click()
        await expect(page.locator("#link")).to_have_text("Live")
        await expect(page.locator("#banner")).to_be_hidden()
        await expect(page.locator("#recent").locator(f'[data-id="{job}"] .badge')).to_have_text("Cancelled")
        await heard(page, "The server is back")


async def test_without_a_free_stream_it_says_so_and_shows_what_there_is(tmp_path: Path, visit: Open) -> None:
    async with open_sidecar(tmp_path, bounds=Bounds(streams=1)) as sidecar:
        job = await sidecar.submit(graphs.picture())
        await sidecar.ended(job)
        async with sidecar.session.get(f"{sidecar.url}/v1/comfyui/events") as held:
            assert held.status == 200
            page = await visit(sidecar.url)
            await expect(page.locator("#banner")).to_contain_text("All places for streams are in use")
            await expect(card(page, job)).to_be_visible()


async def test_engines_that_are_down_are_shown_with_what_to_do(tmp_path: Path, visit: Open) -> None:
    async with open_sidecar(tmp_path, engine_url="down=http://127.0.0.1:9") as sidecar:
        page = await visit(sidecar.url)
        await expect(page.locator(".machine .badge").first).to_have_text("Down")
        await expect(page.locator("#machines .faults li").first).to_contain_text("Start ComfyUI at")
        await choose(page, "waits.json", json.dumps(graphs.picture()).encode())
        await expect(page.locator("#active .badge")).to_have_text("Queued")


async def behind(upstream: str, request: web.Request) -> web.StreamResponse:
    """A proxy for what lies under /studio/: the answer goes on as it comes."""
    headers = {name: request.headers[name] for name in ("Accept", "X-API-Key") if name in request.headers}
    async with (
        ClientSession() as session,
        session.get(f"{upstream}/{request.match_info['rest']}", headers=headers) as got,
    ):
        response = web.StreamResponse(
            status=got.status, headers={"Content-Type": got.headers["Content-Type"]}
        )
        response.headers["Content-Security-Policy"] = got.headers.get("Content-Security-Policy", "")
        await response.prepare(request)
        async for piece in got.content.iter_any():
            await response.write(piece)
    return response


async def test_it_works_behind_a_proxy_that_adds_a_path(sidecar: Sidecar, visit: Open) -> None:
    await sidecar.ended(await sidecar.submit(graphs.picture()))
    proxy = web.Application()
    proxy.router.add_get("/studio/{rest:.*}", partial(behind, sidecar.url))
    async with TestServer(proxy) as server:
        page = await visit(str(server.make_url("/studio")))
        await expect(page.locator("#link")).to_have_text("Live")
        await expect(page.locator(".tile[data-preview=shown]")).to_have_count(1)
        job = await sidecar.submit(graphs.picture())
        await expect(page.locator("#recent").locator(f'[data-id="{job}"]')).to_be_visible()
        await page.close()


async def test_where_requests_run_short_what_a_person_does_still_works(tmp_path: Path, visit: Open) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        for _ in range(24):
            await sidecar.ended(await sidecar.submit(graphs.picture()))
        settings = sidecar.settings.model_copy(update={"rate_limit_per_minute": 30})
        async with served_again(replace(sidecar, settings=settings)) as port:
            page = await visit(f"http://127.0.0.1:{port}", viewport={"width": 1280, "height": 2_000})
            refused: list[str] = []
            page.on("response", lambda answer: refused.append(answer.url) if answer.status == 429 else None)
            shown = page.locator(".tile[data-preview=shown]")
            await expect(shown.first).to_be_visible()
            for place in range(4):
                await page.locator("#recent").get_by_text("Details").nth(place).click()
                await expect(page.locator("#details .facts")).to_be_visible()
                await page.keyboard.press("Escape")
            assert await shown.count() < 24
            assert refused == []
