"""Partner nodes: who may use them, and that a Comfy key is nowhere but in the request that needs it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from comfy_mcp.domain.access import ALL_RIGHTS, DEFAULT_KEY_RIGHTS, Right
from comfy_mcp.domain.errors import Denied, ErrorCode
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.logs import configure
from comfy_mcp.metrics.negotiation import Format
from comfy_mcp.operations.context import Caller
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings, load_settings
from tests.operations.conftest import Bench
from tests.support.fake_engine import FakeEngine, reply
from tests.support.metrics import metrics_of

KEY = "comfyui-5ec2e7c0ffee5ec2e7"
ANNAS = "comfyui-aaaa1111bbbb2222"
PRICE = {"expr": '{"type": "usd", "usd": 0.05}'}
CLASSES = {
    "Paid": {"input": {}, "output": [], "output_node": True, "api_node": True, "price_badge": PRICE},
    "Free": {"input": {}, "output": [], "output_node": True},
}
PAID = {"7": {"class_type": "Paid", "inputs": {}}}
FREE = {"7": {"class_type": "Free", "inputs": {}}}


class Indiscreet(FakeEngine):
    """It repeats the key that it was sent wherever it says something."""

    async def __aenter__(self) -> "Indiscreet":
        await super().__aenter__()
        self.answers["GET /object_info"] = reply(CLASSES)
        self.answers["POST /prompt"] = self.run
        return self

    async def run(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = body.get("extra_data", {}).get("api_key_comfy_org", "no key")
        prompt_id, client = body["prompt_id"], body["client_id"]
        failure = {
            "prompt_id": prompt_id,
            "node_id": "7",
            "node_type": "Paid",
            "exception_type": "RuntimeError",
            "exception_message": f"401: {key} is not valid",
            "traceback": [f"raise RuntimeError('{key}')"],
            "current_inputs": {"why": [key], "api_key_comfy_org": [key]},
        }
        output = {"text": [f"the key is {key}"]}
        events: tuple[tuple[str, dict[str, Any]], ...] = (
            ("execution_start", {}),
            ("executing", {"node": "7", "display_node": "7"}),
            ("executed", {"node": "7", "display_node": "7", "output": output}),
            ("execution_error", failure),
            ("executing", {"node": None}),
        )
        self.histories[prompt_id] = {
            "prompt": [0, prompt_id, body["prompt"], body.get("extra_data", {}), ["7"]],
            "outputs": {"7": output},
            "status": {"status_str": "error", "completed": False, "messages": [["execution_error", failure]]},
        }
        for kind, data in events:
            await self.send(client, {"type": kind, "data": {"prompt_id": prompt_id, **data}})
        return web.json_response({"prompt_id": prompt_id, "number": 1, "node_errors": {}})

    @property
    def keys(self) -> list[str | None]:
        """That came with each prompt."""
        posted = [request.json for request in self.requests_to("POST /prompt")]
        return [body.get("extra_data", {}).get("api_key_comfy_org") for body in posted]


@pytest.fixture
async def engine() -> AsyncIterator[Indiscreet]:
    async with Indiscreet() as engine:
        yield engine


@pytest.fixture
def settings(tmp_path: Path, engine: Indiscreet) -> Settings:
    keys = json.dumps({"anna": ANNAS, "*": KEY})
    return load_settings(engine_urls=engine.url, state_dir=tmp_path / "state", comfy_org_api_key=keys)


def by(call: Bench, client: str, *more: Right) -> Bench:
    caller = Caller(client=ClientId(client), surface="http", rights=DEFAULT_KEY_RIGHTS | set(more))
    return Bench(call.services, caller)


async def ended(call: Bench, graph: dict[str, Any]) -> Any:
    submitted = await call("submit_workflow", workflow=graph)
    state = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=30)
    assert state.status == "failed"
    return state


async def test_partner_nodes_need_the_right_to_spend(call: Bench, engine: Indiscreet) -> None:
    with pytest.raises(Denied) as caught:
        await by(call, "ben")("submit_workflow", workflow=PAID)
    assert caught.value.code is ErrorCode.FORBIDDEN
    said = "uses partner nodes, which cost Comfy credits: node 7 (Paid). That needs the right 'spend'"
    assert said in caught.value.message
    assert (await by(call, "ben")("list_workflows")).workflows == []
    assert not engine.keys


async def test_a_retry_of_partner_nodes_needs_the_right_too(call: Bench, engine: Indiscreet) -> None:
    state = await ended(by(call, "ben", Right.SPEND), PAID)
    with pytest.raises(Denied):
        await by(call, "ben")("retry_workflow", workflow_id=state.workflow_id)
    assert engine.keys == [KEY]


async def test_a_client_has_its_own_key_or_that_of_all_and_only_for_partner_nodes(
    call: Bench, engine: Indiscreet
) -> None:
    for client in ("anna", "ben"):
        await ended(by(call, client, Right.SPEND), PAID)
        await ended(by(call, client, Right.SPEND), FREE)
    assert engine.keys == [ANNAS, None, KEY, None]


async def test_the_price_stands_in_the_answer_to_a_submit(call: Bench) -> None:
    submitted = await by(call, "ben", Right.SPEND)("submit_workflow", workflow=PAID)
    assert submitted.warnings == ["Partner nodes, which cost Comfy credits: node 7 (Paid, $0.05)."]


async def test_without_a_key_the_submit_says_so(tmp_path: Path, engine: Indiscreet) -> None:
    settings = load_settings(
        engine_urls=engine.url, state_dir=tmp_path / "state", comfy_org_api_key=json.dumps({"anna": ANNAS})
    )
    async with open_runtime(settings) as services:
        ben = Bench(services, Caller(client=ClientId("ben"), surface="test", rights=ALL_RIGHTS))
        submitted = await ben("submit_workflow", workflow=PAID)
        assert submitted.warnings[1].startswith("No Comfy API key is set for the client 'ben'")
        await ben("wait_for_workflow", workflow_id=submitted.workflow_id, timeout_s=30)
    assert engine.keys == [None]


@pytest.mark.parametrize(("more", "key"), [((), None), ((Right.SPEND,), KEY)])
async def test_a_graph_that_no_engine_could_check_spends_only_with_the_right(
    call: Bench, engine: Indiscreet, more: tuple[Right, ...], key: str | None
) -> None:
    engine.answers["GET /object_info"] = reply("down", status=500)
    await ended(by(call, "ben", *more), PAID)
    assert engine.keys == [key]


async def test_the_key_is_nowhere_but_in_the_request_to_the_engine(
    settings: Settings, engine: Indiscreet, capsys: pytest.CaptureFixture[str], restored_logging: None
) -> None:
    configure(settings, level="debug")
    caller = Caller(client=ClientId("ben"), surface="test", rights=ALL_RIGHTS)
    async with open_runtime(settings) as services:
        call = Bench(services, caller)
        state = await ended(call, PAID)
        events = await services.store.events_after(0)
        answers = [
            state,
            await call("workflow_graph", workflow_id=state.workflow_id),
            await call("workflow_status", workflow_id=state.workflow_id, attempts=True),
            await call("list_outputs"),
            await call("queue"),
            await call("system_status"),
        ]
        metrics = repr([metrics_of(services).render(form) for form in Format])
        job = await services.store.get_job(state.workflow_id)
    assert engine.keys == [KEY]
    said = capsys.readouterr()
    everything = [
        repr(events),
        repr(job),
        metrics,
        said.out,
        said.err,
        repr(settings),
        settings.model_dump_json(),
    ]
    everything += [answer.model_dump_json() for answer in answers]
    assert KEY not in "".join(everything)
    kept = [file for file in settings.state_dir.rglob("*") if file.is_file()]
    assert kept
    assert not [file for file in kept if KEY.encode() in file.read_bytes()]
    assert state.error == "RuntimeError: 401: *** is not valid"
    assert state.outputs[0].content == "the key is ***"
