"""Every operation of the registry through every surface: the same results, the same error codes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_mcp.domain.access import ApiKey, Right, digest_of
from comfy_mcp.operations.registry import OPERATIONS
from http_sidecar.door.next_steps import in_urls
from http_sidecar.routes import ROUTES
from tests.parity.surfaces import GRAPH_LIMIT, NAMES, House, Mcp, Outcome, Rest, open_house
from tests.support.graphs import failing, picture, slow, text
from tests.support.mcp_http import client_with_key
from tests.support.sidecar import open_sidecar

JOB_OF_ITS_OWN = "<a job of its own>"
"""As an argument: each surface gets a running job that no other touches."""

GRAPH_OF_ITS_OWN = "<a graph of its own>"
DRIVER = re.compile("this process|another process")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`{name}` in an argument is filled in from what was made before. `code`: the error that it must be."""

    operation: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    code: str | None = None

    @property
    def id(self) -> str:
        return f"{self.operation}-{self.code or 'ok'}-{list(self.arguments)}"


def ok(operation: str, **arguments: Any) -> Case:
    return Case(operation=operation, arguments=arguments)


def fails(code: str, operation: str, **arguments: Any) -> Case:
    return Case(operation=operation, arguments=arguments, code=code)


UNKNOWN_NODE = {"1": {"class_type": "NoSuchNode", "inputs": {}}}
LOST_LINK = {
    "nodes": [
        {"id": 1, "type": "EmptyImage", "inputs": [{"name": "width", "type": "INT", "link": 9}]},
        {"id": 2, "type": "NoSuchNode", "inputs": [{"name": "x", "type": "IMAGE", "link": 1}]},
        {"id": 3, "type": "SaveImage", "inputs": [{"name": "images", "type": "IMAGE", "link": 2}]},
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
}
"""In UI format: a link of node 1 leads nowhere, and a class is missing."""

BAD_BRANCH = {
    **picture("t/parity"),
    "3": {"class_type": "EmptyImage", "inputs": {"width": "wide", "height": -1, "batch_size": 1, "color": 0}},
    "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
}
TOO_LARGE = {"1": {"class_type": "PrimitiveString", "inputs": {"value": "x" * GRAPH_LIMIT}}}
TOO_LONG = "x" * 65
CASES = (
    ok("submit_workflow", workflow=GRAPH_OF_ITS_OWN),
    ok("submit_workflow", workflow=GRAPH_OF_ITS_OWN, priority="high", gpu="local", unknown=1),
    ok("submit_workflow", workflow=GRAPH_OF_ITS_OWN, queue_timeout_s=60, run_timeout_s=60),
    fails("invalid_argument", "submit_workflow", workflow=picture(), run_timeout_s=-1),
    fails("invalid_argument", "submit_workflow"),
    fails("invalid_argument", "submit_workflow", workflow=picture(), priority="urgent"),
    fails("invalid_argument", "submit_workflow", workflow=picture(), path="x.json"),
    ok("submit_workflow", workflow=GRAPH_OF_ITS_OWN, queue_timeout_s=600, run_timeout_s=0.5),
    fails("invalid_argument", "submit_workflow", workflow=picture(), queue_timeout_s=0),
    fails("invalid_argument", "submit_workflow", workflow=picture(), run_timeout_s=10**9),
    fails("graph_ui_format", "submit_workflow", workflow={"nodes": [], "links": []}),
    fails("graph_invalid", "submit_workflow", workflow=UNKNOWN_NODE),
    fails("graph_invalid", "submit_workflow", workflow=LOST_LINK, unknown=1),
    fails("invalid_argument", "submit_workflow", workflow=picture(), priority="urgent", unknown=1),
    fails("workflow_not_found", "workflow_status", workflow_id="nope…", unknown=1),
    ok("submit_workflow", workflow=BAD_BRANCH),
    fails("graph_invalid", "submit_workflow", workflow="{"),
    fails("too_large", "submit_workflow", workflow=TOO_LARGE),
    fails("lane_unavailable", "submit_workflow", workflow=picture(), gpu="salad"),
    fails("path_not_allowed", "submit_workflow", path="/etc/hostname"),
    fails("idempotency_mismatch", "submit_workflow", workflow=picture(), idempotency_key="used"),
    ok("submit_workflow", workflow="{job}", inputs={"prefix": "t/parity"}, name="a second one"),
    fails("not_found", "submit_workflow", workflow="no such workflow"),
    fails("invalid_argument", "submit_workflow", workflow="{job}", inputs={"nope": 1}),
    ok("find_workflow"),
    ok("find_workflow", query="upscale a picture", kind="image", limit=3),
    fails("invalid_argument", "find_workflow", kind="poem"),
    ok("describe_workflow", name="{job}"),
    fails("not_found", "describe_workflow", name="no such workflow"),
    fails("workflow_not_found", "describe_workflow", name="job:nope"),
    ok("find_nodes", query="blend two images", limit=2),
    ok("find_nodes", name="ImageScaleBy"),
    ok("find_nodes", name="ImageScaleBy.upscale_method", limit=2),
    ok("find_nodes", produces="IMAGE", accepts="MASK"),
    fails("not_found", "find_nodes", name="NoSuchNode"),
    fails("invalid_argument", "find_nodes", cursor="?"),
    ok("workflow_status", workflow_id="{completed}"),
    ok("workflow_status", workflow_id="{failed}"),
    ok("workflow_status", workflow_id="{cancelled}"),
    ok("workflow_status", workflow_id="{texts}"),
    ok("workflow_status", workflow_id="{failed}", attempts=True),
    ok("workflow_status", workflow_id="{failed}", attempts="true"),
    fails("invalid_argument", "workflow_status", workflow_id="{failed}", attempts="perhaps"),
    fails("workflow_not_found", "workflow_status", workflow_id="nope"),
    fails("invalid_argument", "workflow_status", workflow_id=TOO_LONG),
    ok("workflow_graph", workflow_id="{completed}"),
    fails("workflow_not_found", "workflow_graph", workflow_id="nope"),
    ok("submit_workflow", workflow=GRAPH_OF_ITS_OWN, extra_data={"preview_method": "none", "other": 1}),
    ok("wait_for_workflow", workflow_id="{completed}"),
    ok("wait_for_workflow", workflow_id="{failed}", timeout_s=0),
    fails("workflow_not_found", "wait_for_workflow", workflow_id="nope"),
    fails("invalid_argument", "wait_for_workflow", workflow_id="{completed}", timeout_s=-1),
    ok("cancel_workflow", workflow_id=JOB_OF_ITS_OWN, reason="enough"),
    ok("cancel_workflow", workflow_id="{cancelled}"),
    fails("not_cancellable", "cancel_workflow", workflow_id="{completed}"),
    fails("not_cancellable", "cancel_workflow", workflow_id="{failed}"),
    fails("workflow_not_found", "cancel_workflow", workflow_id="nope"),
    ok("workflow_status", workflow_id="{completed},{failed}"),
    ok("wait_for_workflow", workflow_id="{completed},{failed}", until="any"),
    fails("invalid_argument", "cancel_workflow", workflow_id="{completed}", reason="x" * 201),
    ok("retry_workflow", workflow_id="{failed}"),
    fails("not_retryable", "retry_workflow", workflow_id="{completed}"),
    fails("invalid_argument", "retry_workflow", workflow_id="{failed}", idempotency_key="x" * 256),
    fails("workflow_not_found", "retry_workflow", workflow_id="nope"),
    fails("invalid_argument", "retry_workflow", workflow_id=TOO_LONG),
    ok("prioritize_workflow", workflow_id="{completed}", priority="low"),
    fails("invalid_argument", "prioritize_workflow", workflow_id="{completed}", priority="urgent"),
    fails("workflow_not_found", "prioritize_workflow", workflow_id="nope", priority="low"),
    ok("list_models", limit=200),
    ok("list_models", type="loras", search="sty", limit=1),
    fails("invalid_argument", "list_models", type="nope"),
    fails("invalid_argument", "list_models", cursor="?"),
    fails("invalid_argument", "list_models", limit=0),
    ok("list_outputs", limit=50),
    ok("list_outputs", workflow_id="{completed}", type="image", since=1, limit=1),
    ok("list_outputs", workflow_id="nope"),
    fails("invalid_argument", "list_outputs", limit=0),
    fails("invalid_argument", "list_outputs", type="poem"),
    fails("invalid_argument", "list_outputs", cursor="?"),
    ok("view_output", output_id="{picture}"),
    ok("view_output", output_id="{picture}", max_px=16),
    fails("not_found", "view_output", output_id="nope"),
    fails("invalid_argument", "view_output", output_id="{picture}", max_px=1),
    ok("read_output", output_id="{picture}"),
    ok("read_output", output_id="{text}"),
    fails("not_found", "read_output", output_id="nope"),
    ok("list_workflows"),
    ok("list_workflows", fields="full", limit=3),
    ok("list_outputs", fields="full", limit=3),
    ok("list_models", fields="full"),
    fails("invalid_argument", "list_outputs", fields="some"),
    ok("list_workflows", status="ended"),
    ok("list_workflows", tag="client=acme"),
    fails("invalid_argument", "list_workflows", tag="acme"),
    ok("list_workflows", status="failed", failure_kind="node_error", limit=5),
    ok("list_workflows", status="failed", retried=True),
    fails("invalid_argument", "list_workflows", failure_kind="bad_luck"),
    fails("invalid_argument", "list_workflows", cursor="?"),
    ok("queue"),
    ok("gpu_status"),
    ok("system_status"),
)


def test_every_operation_has_a_route_and_a_case() -> None:
    shared = {operation.name for operation in OPERATIONS if operation.only is None}
    assert {route.operation for route in ROUTES} >= shared
    assert {case.operation for case in CASES if case.code is None} == shared


async def test_what_another_surface_has_alone_is_unknown_to_mcp(tmp_path: Path) -> None:
    names = {operation.name for operation in OPERATIONS if operation.only is not None}
    async with open_house(tmp_path) as house:
        for surface in house.surfaces.values():
            if isinstance(surface, Mcp):
                listed = {tool.name for tool in (await surface.client.list_tools()).tools}
                templates = (await surface.client.list_resource_templates()).resource_templates
                assert names
                assert not names & (listed | {template.name for template in templates})


async def test_all_surfaces_give_the_same_results_and_the_same_errors(tmp_path: Path) -> None:
    for name in ("loras/style.safetensors", "loras/stylish.safetensors", "vae/one.safetensors"):
        file = tmp_path / "models" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"12345")
    async with open_house(tmp_path) as house:
        made = await _made(house)
        came = [(case, {name: await _outcome(house, name, case, made) for name in NAMES}) for case in CASES]
    for case, outcomes in came:  # outside: a failure in there comes out wrapped many times
        expected = outcomes["rest"]
        assert expected.code == case.code, (case.id, expected)
        assert outcomes == dict.fromkeys(NAMES, expected), case.id
        if case.code is not None and "unknown" in case.arguments:
            assert any("no argument 'unknown'" in text for text in expected.warnings), case.id
        if case.arguments.get("workflow") is LOST_LINK:
            assert "its link leads nowhere" in expected.warnings[1]
            assert [each["nodeId"] for each in expected.problems] == ["2"]
            assert [len(each) for each in expected.missing] == [1, 0, 0]
        if case.arguments.get("workflow") is BAD_BRANCH:
            assert expected.result is not None
            assert [each["inputName"] for each in expected.result["problems"]] == ["width", "height"]
            assert len(expected.result["warnings"]) == 2


async def test_without_a_right_every_operation_is_forbidden_over_mcp_and_rest(tmp_path: Path) -> None:
    """A key may do what its rights say, on whichever of the two surfaces it is shown."""
    async with open_sidecar(tmp_path) as sidecar:
        rights = {"nobody": frozenset[Right](), "reader": frozenset({Right.READ})}
        for name, granted in rights.items():
            key = ApiKey(name=name, digest=digest_of(f"key of {name}"), rights=granted, created_at=1)
            await sidecar.services.store.add_key(key)
        for name, granted in rights.items():
            arguments = {"workflow_id": "nope", "output_id": "nope"}
            rest = Rest(sidecar=sidecar, headers={"X-API-Key": f"key of {name}"})
            async with client_with_key(f"{sidecar.url}/mcp", "2026-07-28", f"key of {name}") as client:
                for operation in OPERATIONS:
                    if operation.only is not None:
                        continue
                    fitting = {
                        key: value for key, value in arguments.items() if key in operation.params.model_fields
                    }
                    codes = {
                        (await surface(operation.name, fitting)).code
                        for surface in (rest, Mcp(client=client))
                    }
                    assert len(codes) == 1, (name, operation.name, codes)
                    assert (codes == {"forbidden"}) == (operation.right not in granted), operation.name


async def _made(house: House) -> dict[str, str]:
    """Ids of one job of each end, and of outputs."""
    sidecar = house.sidecar
    completed = await sidecar.submit(picture("t/parity"), idempotency_key="used")
    failed = await sidecar.submit(failing("boom"))
    texts = await sidecar.submit(text("words"))
    [one] = (await sidecar.ended(completed))["outputs"]
    [word] = (await sidecar.ended(texts))["outputs"]
    await sidecar.ended(failed)
    cancelled = await _running(house)
    await sidecar("DELETE", f"/v1/comfyui/workflow/{cancelled}")
    return {
        "completed": completed,
        "job": f"job:{completed}",
        "failed": failed,
        "cancelled": cancelled,
        "texts": texts,
        "picture": one["outputId"],
        "text": word["outputId"],
    }


async def _running(house: House) -> str:
    job = await house.sidecar.submit(slow())
    await house.sidecar.until_running(job)
    return job


async def _outcome(house: House, name: str, case: Case, made: Mapping[str, str]) -> Outcome:
    arguments: dict[str, Any] = {}
    for key, value in case.arguments.items():
        match value:
            case "<a job of its own>":
                arguments[key] = await _running(house)
            case "<a graph of its own>":
                arguments[key] = picture("t/parity")
            case str():
                arguments[key] = re.sub(r"\{(\w+)\}", lambda found: made[found[1]], value)
            case _:
                arguments[key] = value
    outcome = await house.surfaces[name](case.operation, arguments)
    if case.operation in MAKES_A_JOB and outcome.result is not None:
        await house.sidecar.ended(outcome.result["workflowId"])
    return _comparable(case, outcome, arguments)


def _comparable(case: Case, outcome: Outcome, arguments: Mapping[str, Any]) -> Outcome:
    """Modulo the ids of new jobs, which process asks, and what is measured anew each time.

    Next steps are said as REST says them."""
    if ROUTES_BINARY[case.operation]:
        return Outcome(data=outcome.data, code=outcome.code)  # REST has the bytes, MCP describes them too
    if outcome.result is None:
        return outcome
    result = dict(outcome.result)
    if case.operation in MAKES_A_JOB and result.get("queuePosition") is not None:
        result["queuePosition"] = "a place"  # what was cancelled before may still be at the engine
    return Outcome(result=_neutral(result, _new_ids(case, outcome, arguments)))


TICKET = re.compile(r" Your own file is uploaded first [^\n]*? 15 minutes\.")
"""Of a client of MCP over HTTP, which has no key at hand and no folder."""

MAKES_A_JOB = frozenset({"submit_workflow", "retry_workflow"})
ROUTES_BINARY = {route.operation: route.binary for route in ROUTES}


def _new_ids(case: Case, outcome: Outcome, arguments: Mapping[str, Any]) -> frozenset[str]:
    assert outcome.result is not None
    if case.operation in MAKES_A_JOB:
        return frozenset({outcome.result["workflowId"]})
    return frozenset({arguments["workflow_id"]}) if JOB_OF_ITS_OWN in case.arguments.values() else frozenset()


def _neutral(value: Any, ids: frozenset[str]) -> Any:
    match value:
        case dict():
            measured = {"used", "percentUsed", "utilization", "sampledAt", "ageMs", "events"}
            return {key: _neutral(each, ids) for key, each in value.items() if key not in measured}
        case list():
            return [_neutral(each, ids) for each in value]
        case str():
            for new in ids:
                value = value.replace(new, "ID")
            return DRIVER.sub("a process", in_urls(TICKET.sub("", value)))
        case _:
            return value
