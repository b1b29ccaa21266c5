"""The view in hosts that refuse, lack something, fall silent, dress it, or end it."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.apps.conftest import OpenApp
from tests.apps.host import ALONE, EVERYTHING
from tests.apps.told import graph, job, output, result
from tests.support.mcp_surface import LIMIT_S

pytestmark = pytest.mark.asyncio(loop_scope="package")


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


async def test_an_output_that_is_not_there_is_no_refusal(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show(capabilities={"serverResources": {}})
        await host.tell("ui/notifications/tool-result", result(outputs=[output("a"), output("b")]))
        await expect(host.view.locator("[data-preview=none]")).to_have_count(2)
        await expect(host.view.locator(".trouble")).to_have_count(0)
        assert host.calls == ["resources/read"] * 2


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
                await host.pass_time(3_000)
        await host.page.clock.pause_at(await host.page.evaluate("Date.now() / 1000 + 1"))
        await host.page.evaluate("() => scrollTo(0, 5000)")
        async with asyncio.timeout(LIMIT_S):
            while len(host.calls) == asked:
                assert await host.ask("ping") == {}


async def test_messages_of_anybody_but_the_host_are_ignored(open_app: OpenApp) -> None:
    async with open_app() as host:
        await host.show(capabilities={})
        message = {
            "jsonrpc": "2.0",
            "method": "ui/notifications/tool-result",
            "params": result(**job("failed")),
        }
        await host.page.frames[1].evaluate("message => postMessage(message, '*')", message)
        for odd in ("text", 7, None, {}, {"jsonrpc": "2.0"}, {"jsonrpc": "2.0", "id": 99, "result": {}}):
            await host.page.evaluate("odd => frame.contentWindow.postMessage(odd, '*')", odd)
        assert await host.ask("ping") == {}
        await expect(host.view.get_by_role("article")).to_have_count(0)


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
        await expect(host.page.get_by_role("status").first).to_contain_text("works in hosts of MCP Apps")
