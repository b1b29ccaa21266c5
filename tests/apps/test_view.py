"""The view of the MCP App, in a sandbox under a host's policy, over a real server."""

import re
from typing import cast

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.apps.conftest import OpenApp
from tests.apps.told import graph, grown, job, output, progress, result

ODD = '<img src=x onerror="document.title=1">\u202e"&amp;\x1b'

SILENCE = "UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA=="
"""A sound of one millisecond, as WAV in base64."""

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_progress_moves_and_a_running_workflow_is_cancelled(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show()
        await host.call("submit_workflow", workflow=graph(seconds=120))
        bar = host.view.locator("progress")
        await expect(bar).to_be_visible()
        seen = await grown(bar, 0)
        assert await grown(bar, seen) < 100

        await host.view.get_by_role("button", name="Cancel").click()
        await expect(host.view.locator(".badge")).to_have_text("Cancelled")
        await expect(bar).to_be_hidden()
        assert host.calls.count("cancel_workflow") == 1
        states = (await host.client.call_tool("list_workflows", {})).structured_content["workflows"]
        assert [state["status"] for state in states] == ["cancelled"]


async def test_the_picture_appears_is_looked_at_and_closed_again(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show()
        await host.call("submit_workflow", workflow=graph())
        tile = host.view.get_by_role("button", name="Show Picture t_00001_.png")
        picture = tile.locator("img")
        await expect(picture).to_be_visible()
        assert await picture.evaluate("async img => (await img.decode(), img.naturalWidth)") == 64
        # The file itself, or its preview where the view looked before the size of the file was known.
        assert re.match("data:image/(png|jpeg);base64,", await picture.get_attribute("src") or "")
        await expect(host.view.get_by_role("status").last).to_have_text(re.compile("completed$"))

        await tile.press("Enter")
        stage = host.view.get_by_role("region", name="Picture t_00001_.png")
        await expect(stage.locator("img")).to_be_visible()
        await expect(stage).to_be_focused()
        await stage.press("Escape")
        await expect(stage).to_be_hidden()
        await expect(tile).to_be_focused()


async def test_a_large_picture_comes_as_a_preview(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show()
        none = host.view.locator("[data-preview=none]")  # there is no such output
        await host.tell("ui/notifications/tool-result", result(outputs=[output("large", size=10**6)]))
        await expect(none).to_have_attribute("data-id", "large")
        assert host.calls == ["view_output", "resources/read"]
        await host.tell("ui/notifications/tool-result", result(outputs=[output("huge", size=10**7)]))
        await expect(none).to_have_attribute("data-id", "huge")
        assert host.calls[2:] == ["view_output"]  # and never the file


async def test_media_play_and_what_is_none_or_too_large_is_not_read(open_app: OpenApp) -> None:
    async with open_app() as host:
        page = {"mimeType": "text/html", "blob": "PGI+aGk8L2I+"}
        sound = {"mimeType": "audio/wav", "blob": SILENCE}
        host.files = {"comfy://outputs/sound": sound, "comfy://outputs/video": page}
        outputs = [
            output("sound", type="audio"),
            output("video", type="video"),
            output("film", type="video", size=2**25),
        ]
        await host.show()
        await host.tell("ui/notifications/tool-result", result(outputs=outputs))
        await host.view.get_by_role("button", name="sound").click()
        player = host.view.locator("audio")
        await expect(player).to_have_attribute("src", f"data:audio/wav;base64,{SILENCE}")
        await player.evaluate("audio => audio.readyState || new Promise(r => (audio.onloadedmetadata = r))")
        for name in ("video", "film"):
            await host.view.get_by_role("button", name=f"Show Video {name}").click()
            await expect(host.view.locator(".stage")).to_contain_text("There is no preview")
        assert host.calls == ["resources/read"] * 2


async def test_a_wait_is_followed_before_it_has_an_answer(open_app: OpenApp) -> None:
    async with open_app() as host:
        submitted = await host.client.call_tool("submit_workflow", {"workflow": graph(seconds=120)})
        workflow_id = submitted.structured_content["workflowId"]
        await host.show(context={"toolInfo": {"tool": {"name": "wait_for_workflow"}}})
        await host.tell("ui/notifications/tool-input", {"arguments": {"workflow_id": workflow_id}})
        bar = host.view.locator("progress")
        await expect(bar).to_be_visible()
        await grown(bar, 0)
        await host.tell("ui/notifications/tool-cancelled", {"reason": "the user"})
        await host.view.get_by_role("button", name="Cancel").click()
        await expect(host.view.locator(".badge")).to_have_text("Cancelled")


async def test_outputs_are_paged_through(open_app: OpenApp) -> None:
    async with open_app() as host:
        for seed in range(3):
            submitted = await host.client.call_tool("submit_workflow", {"workflow": graph(seed=seed)})
            await host.client.call_tool(
                "wait_for_workflow", {"workflow_id": submitted.structured_content["workflowId"]}
            )
        await host.show()
        await host.call("list_outputs", limit=1)
        more = host.view.get_by_role("button", name="Show more")
        tiles = host.view.get_by_role("listitem")
        host.denied = {"list_outputs"}
        await more.click()
        await expect(host.view.get_by_role("alert")).to_contain_text("did not carry out list_outputs")
        host.denied.clear()
        for count in (1, 2):
            await expect(tiles).to_have_count(count)
            await more.click()
        await expect(tiles).to_have_count(3)
        await expect(more).to_be_hidden()
        await expect(tiles.locator("img")).to_have_count(3)
        await expect(host.view.locator(".trouble")).to_have_count(0)


async def test_a_state_with_as_many_outputs_as_it_names_offers_the_rest(open_app: OpenApp) -> None:
    async with open_app() as host:
        host.forged["list_outputs"] = lambda _: result(outputs=[output("50"), output("51")])
        await host.show()
        made = [output(str(number)) for number in range(50)]
        await host.tell("ui/notifications/tool-result", result(**job("completed", outputs=made)))
        await host.view.get_by_role("button", name="Show more").click()
        await expect(host.view.get_by_role("listitem")).to_have_count(52)
        await expect(host.view.get_by_role("button", name="Show more")).to_be_hidden()
        await expect(host.view.locator(".trouble")).to_have_count(0)  # what is gone is no refusal


async def test_a_failed_workflow_says_why_and_is_retried(open_app: OpenApp) -> None:
    async with open_app() as host:
        failing = graph()
        inputs = {"image": ["1", 0], "message": "no luck", "exception_type": "ValueError"}
        failing["3"] = {"class_type": "BridgeFail", "inputs": inputs}
        failing["2"]["inputs"]["images"] = ["3", 0]
        await host.show()
        first = (await host.call("submit_workflow", workflow=failing))["structuredContent"]["workflowId"]
        cause = host.view.locator(".job-cause")
        await expect(cause).to_contain_text("no luck")
        await host.view.get_by_role("button", name="Retry").click()
        card = host.view.get_by_role("article")
        await expect(card).not_to_have_attribute("data-id", first)
        await expect(card).to_have_attribute("data-status", "failed")
        await expect(card).to_be_focused()  # the button that was pressed has gone


async def test_odd_names_are_text_and_nothing_else(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show()
        failure = {"kind": ODD, "message": ODD, "nodeId": ODD, "nodeType": ODD}
        facts = {"currentNode": ODD, "engine": ODD, "client": ODD, "error": ODD, "failure": failure}
        outputs = [
            output("a", filename=ODD, size=None),
            output("b", filename=ODD, type="text", content=ODD),
            output("c", filename=ODD, type=ODD),
        ]
        odd = job("failed", workflowId=ODD, warnings=[ODD], outputs=outputs, **facts)
        await host.tell("ui/notifications/tool-result", result(**odd))
        await expect(host.view.locator(".tile-name").first).to_have_text(ODD, use_inner_text=False)
        await host.tell(
            "ui/notifications/tool-result", {"isError": True, "content": [{"type": "text", "text": ODD}]}
        )
        await expect(host.view.get_by_role("alert")).to_contain_text("<img src=x")
        await host.view.locator("button.tile-frame").nth(1).click()
        await expect(host.view.locator(".stage-text")).to_contain_text("<img src=x")
        assert await host.view.locator("img").count() == 0
        assert await host.view.locator("body").evaluate("() => document.title") == "ComfyUI workflows"


async def test_a_workflow_that_vanishes_leaves_what_was_known(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show()
        await host.tell("ui/notifications/tool-result", result(**job("running", progress=40)))
        await expect(host.view.get_by_role("alert")).to_contain_text("workflow_not_found")
        await expect(host.view.locator(".badge")).to_have_text("Running")
        assert await progress(host.view.locator("progress")) == 40


async def test_a_refused_workflow_is_said_in_the_server_s_words(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show()
        await host.call("submit_workflow", workflow={"1": {"class_type": "NoSuchNode", "inputs": {}}})
        await expect(host.view.get_by_role("alert")).to_contain_text("NoSuchNode")
        await expect(host.view.get_by_role("article")).to_have_count(0)


async def test_an_answer_that_comes_late_does_not_undo_the_end(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show(capabilities={})
        for state in (job("completed"), job("running", progress=50)):
            await host.tell("ui/notifications/tool-result", result(**state))
        await host.ask("ping")
        await expect(host.view.locator(".badge")).to_have_text("Completed")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", ["running", "failed"])
async def test_axe_finds_nothing_to_complain_of(open_app: OpenApp, theme: str, state: str) -> None:
    async with open_app() as host:
        host.denied = {"workflow_status"}
        await host.show(context={"theme": theme})
        failure = {"kind": "oom", "message": "no room", "nodeId": "3", "nodeType": "KSampler"}
        facts = {"failure": failure} if state == "failed" else {"currentNode": "KSampler", "engine": "here"}
        kinds = ("text", "image", "video", "audio", "file")
        outputs = [output(kind, type=kind, content="a haiku" if kind == "text" else None) for kind in kinds]
        told = job(state, progress=40, warnings=["A warning."], outputs=outputs, **facts)
        await host.tell("ui/notifications/tool-result", result(**told))
        await host.view.locator("button.tile-frame").first.click()
        await expect(host.view.locator(".stage-text")).to_be_visible()
        found = await Axe().run(cast("Page", host.page.frames[1]))
        assert found.response["url"] == "about:srcdoc"
        assert found.response["violations"] == [], found.generate_report()
