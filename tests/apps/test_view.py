"""The view of the MCP App, in a sandbox under a host's policy, over a real server."""

import asyncio
import re
from typing import Any, cast

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Locator, Page, expect

from tests.apps.conftest import OpenApp
from tests.apps.host import ALONE, EVERYTHING
from tests.support.mcp_surface import LIMIT_S, slow_graph

LIMIT_MS = LIMIT_S * 1000
ODD = '<img src=x onerror="document.title=1">\u202e"&amp;\x1b'

expect.set_options(timeout=LIMIT_MS)

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
        assert (await picture.get_attribute("src") or "").startswith("data:image/png;base64,")
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
        await host.tell("ui/notifications/tool-result", result(outputs=[output("x", size=10**7)]))
        await expect(host.view.locator("[data-preview=none]")).to_be_visible()
        assert host.calls == ["view_output"]  # and never the file


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


async def test_a_host_that_refuses_gets_its_words_shown_and_can_be_asked_again(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show()
        host.denied = {"workflow_status"}
        submitted = await host.call("submit_workflow", workflow=graph())
        alert = host.view.get_by_role("alert")
        await expect(alert).to_contain_text("did not carry out workflow_status: The user said no")
        await expect(host.view.locator(".badge")).to_have_text("Queued")
        assert host.calls == ["workflow_status"]
        host.denied = {"cancel_workflow"}
        await host.client.call_tool(
            "wait_for_workflow", {"workflow_id": submitted["structuredContent"]["workflowId"]}
        )
        await host.view.get_by_role("button", name="Cancel").click()
        await expect(alert).to_contain_text("did not carry out cancel_workflow")
        await alert.get_by_role("button", name="Try again").click()
        await expect(host.view.locator(".badge")).to_have_text("Completed")
        await expect(host.view.locator(".trouble")).to_have_count(0)


async def test_refused_previews_are_said_once_and_not_asked_for_again(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show()
        host.denied = {"resources/read", "view_output"}
        many = [output(str(number)) for number in range(6)]
        await host.tell("ui/notifications/tool-result", result(outputs=many))
        await expect(host.view.locator("[data-preview=none]")).to_have_count(6)
        await expect(host.view.get_by_role("alert").locator("p")).to_have_count(1)
        assert len(host.calls) <= 4  # two at once, each in two ways


@pytest.mark.parametrize("lacks", ["serverTools", "serverResources"])
async def test_a_host_that_passes_less_on_gets_a_view_that_does_less(open_app: OpenApp, lacks: str) -> None:
    async with open_app() as host:
        await host.show(capabilities={name: {} for name in EVERYTHING if name != lacks})
        submitted = await host.call("submit_workflow", workflow=graph())
        if lacks == "serverTools":
            await expect(host.view.get_by_role("status").first).to_contain_text(
                "lets the view ask for no news"
            )
            await expect(host.view.locator(".badge")).to_have_text("Queued")
            await expect(host.view.get_by_role("button")).to_have_count(0)
            assert host.calls == []
            await host.call("wait_for_workflow", workflow_id=submitted["structuredContent"]["workflowId"])
        await expect(host.view.locator(".badge")).to_have_text("Completed")
        await expect(host.view.locator(".tile img")).to_be_visible()
        only = {"serverTools": {"resources/read"}, "serverResources": {"workflow_status", "view_output"}}
        assert set(host.calls) == only[lacks]


async def test_a_passing_error_is_waited_out(open_app: OpenApp) -> None:
    async with open_app() as host:
        gone = {"code": "store_unavailable", "nextStep": "", "retryable": True}
        answers = [{"isError": True, "content": [], "_meta": {"comfy-bridge/error": gone}}]
        host.forged["workflow_status"] = lambda given: answers.pop() if answers else given
        await host.show()
        await host.call("submit_workflow", workflow=graph())
        await expect(host.view.locator(".badge")).to_have_text("Completed")
        assert answers == []
        await expect(host.view.locator(".trouble")).to_have_count(0)


async def test_a_server_that_stays_troubled_is_asked_eight_times_and_then_on_a_button(
    open_app: OpenApp,
) -> None:
    async with open_app() as host:
        gone = {"code": "store_unavailable", "nextStep": "", "retryable": True}
        failure = {"isError": True, "content": [], "_meta": {"comfy-bridge/error": gone}}
        host.forged["workflow_status"] = lambda _: failure
        await host.page.clock.install()
        await host.show()
        await host.tell("ui/notifications/tool-result", result(**job("running", progress=40)))
        async with asyncio.timeout(LIMIT_S):
            while await host.view.get_by_role("button", name="Try again").count() == 0:
                await host.pass_time(60_000)
        assert host.calls == ["workflow_status"] * 8
        await host.pass_time(60_000)
        assert len(host.calls) == 8
        await host.view.get_by_role("button", name="Try again").click()
        await host.pass_time(0)
        assert len(host.calls) == 9


async def test_while_nobody_sees_it_the_view_asks_seldom_and_at_once_when_it_comes_into_sight(
    open_app: OpenApp,
) -> None:
    async with open_app() as host:
        await host.page.evaluate("() => document.body.style.paddingTop = '5000px'")
        await host.page.clock.install()
        await host.show()
        host.forged["workflow_status"] = lambda _: result(**job("running", progress=40))
        await host.tell("ui/notifications/tool-result", result(**job("running", progress=30)))
        async with asyncio.timeout(LIMIT_S):
            asked = -1
            while asked != len(host.calls):  # until it has noticed that nobody sees it
                asked = len(host.calls)
                await host.pass_time(2_000)
        await host.page.clock.pause_at(await host.page.evaluate("Date.now() + 1000"))
        await host.page.evaluate("() => scrollTo(0, 5000)")
        async with asyncio.timeout(LIMIT_S):
            while len(host.calls) == asked:
                assert await host.ask("ping") == {}


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


async def test_the_host_s_theme_font_and_insets_are_taken_and_the_size_is_told(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show(
            context={"theme": "dark", "styles": {"variables": {"--font-sans": "Probe Sans, serif"}}}
        )
        body = host.view.locator("body")
        await expect(body).to_have_css("background-color", "rgb(19, 20, 23)")
        await expect(body).to_have_css("font-family", '"Probe Sans", serif')
        await host.tell(
            "ui/notifications/host-context-changed", {"theme": "light", "safeAreaInsets": {"top": 20}}
        )
        await expect(body).to_have_css("background-color", "rgb(246, 246, 243)")
        await expect(body).to_have_css("padding-top", "20px")
        await expect(body).to_have_css("font-family", '"Probe Sans", serif')

        async def height() -> int:
            return int((await host.heard("ui/notifications/size-changed"))[-1]["height"])

        before = await height()
        await host.tell("ui/notifications/tool-result", result(**job("completed", outputs=[output("x")])))
        async with asyncio.timeout(LIMIT_S):
            while await height() < before + 150:
                await host.page.evaluate("() => new Promise(requestAnimationFrame)")
        overflow = await body.evaluate("() => document.documentElement.scrollHeight - innerHeight")
        assert overflow <= 0


async def test_the_end_is_answered_and_ends_the_questions(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.page.clock.install()
        await host.show()
        await host.call("submit_workflow", workflow=graph(seconds=120))
        await expect(host.view.locator("progress")).to_be_visible()
        assert await host.ask("ui/resource-teardown", {"reason": "closed"}) == {}
        assert await host.ask("ping") == {}
        assert (await host.ask("tools/list"))["code"] == -32601
        calls = len(host.calls)
        await host.pass_time(60_000)
        assert len(host.calls) == calls


async def test_alone_in_a_window_it_says_what_it_is(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.page.goto(ALONE)
        await expect(host.page.get_by_role("status").first).to_contain_text("a view for hosts of MCP Apps")


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
