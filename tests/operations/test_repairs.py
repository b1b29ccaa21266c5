"""What callers mean by arguments that are written otherwise than asked for: taken, and told."""

import json
from typing import Any

import pytest

from comfy_mcp.domain.errors import InvalidInput, NotFound
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.repairs import repaired
from tests.operations.conftest import Bench
from tests.support import graphs

ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
GRAPH = {"1": {"class_type": "EmptyImage", "inputs": {"width": 64}}}
SUBMIT = BY_NAME["submit_workflow"].params


def taken(operation: str, **given: Any) -> tuple[dict[str, Any], str]:
    arguments, warnings = repaired(operation, BY_NAME[operation].params, given)
    return arguments, " ".join(warnings)


@pytest.mark.parametrize("nothing", [None, "", "  ", "null", "None", "undefined"])
def test_what_strict_clients_send_for_nothing_is_nothing(nothing: object) -> None:
    given = {"status": nothing, "retried": nothing, "since": nothing, "limit": nothing, "cursor": None}
    assert taken("list_workflows", **given, client="") == ({}, "")
    lists = dict.fromkeys(("inputs", "labels", "after", "matrix", "variations", "engine", "webhook"), nothing)
    assert taken("submit_workflow", workflow=GRAPH, **lists) == ({"workflow": GRAPH}, "")
    assert taken("find_nodes", query="x", cursor=nothing) == ({"query": "x"}, "")


def test_a_text_argument_may_be_the_word_null_and_a_required_one_stays() -> None:
    assert taken("list_models", search="null", type="None") == ({"search": "null", "type": "None"}, "")
    assert taken("workflow_status", workflow_id=None, attempts=None) == ({"workflow_id": None}, "")


@pytest.mark.parametrize(
    ("operation", "name", "value", "meant"),
    [
        ("list_workflows", "status", "Completed", "completed"),
        ("list_workflows", "status", "'canceled' ", "cancelled"),
        ("list_workflows", "failureKind", "OOM", "oom"),
        ("submit_workflow", "priority", '"HIGH"', "high"),
        ("list_outputs", "type", "Images", "image"),
        ("list_outputs", "type", "file ", "file"),
        ("list_outputs", "type", "picture", "image"),
        ("wait_for_workflow", "until", "ALL", "all"),
        ("list_outputs", "since", 1_764_400_000, 1_764_400_000_000),
        ("list_outputs", "since", "1764400000.5", 1_764_400_000_500),
        ("list_outputs", "since", "2026-11-30", 1_795_996_800_000),
        ("list_workflows", "since", "2026-11-30T12:00:00.5+01:00", 1_796_036_400_500),
        ("list_workflows", "since", "'2026-11-30 11:00:00Z'", 1_796_036_400_000),
        ("list_workflows", "status", "Succeeded", "completed"),
        ("list_workflows", "status", "in progress", "running"),
        ("list_outputs", "type", "PNG", "image"),
        ("workflow_status", "workflowId", f' "{ID}" ', ID),
        ("workflow_status", "workflow_id", ID.upper(), ID),
        ("workflow_status", "workflow_id", f"comfy://workflows/{ID}", ID),
        ("workflow_status", "workflow_id", f"http://127.0.0.1:9090/v1/comfyui/workflow/{ID}/wait?x=1", ID),
        ("workflow_status", "workflow_id", {"workflowId": ID, "status": "queued"}, ID),
        ("view_output", "output_id", f"<comfy://outputs/{ID}>", ID),
        ("view_output", "output_id", "/v1/comfyui/output/a%20b.png/preview", "a b.png"),
        ("workflow_status", "workflow_id", json.dumps([ID]), [ID]),
        ("workflow_status", "workflow_id", json.dumps({"workflowId": ID}), ID),
        ("workflow_status", "workflow_id", f"job:{ID}", ID),
        ("workflow_status", "workflow_id", f"[{ID}]", ID),
        ("workflow_status", "workflow_id", f"workflow {ID}.", ID),
        ("workflow_status", "workflow_id", f"urn:uuid:{ID}", ID),
        ("workflow_status", "workflow_id", f"{ID[:8]}…", ID[:8]),
        ("workflow_status", "workflow_id", f"{ID[:8]}...", ID[:8]),
        ("view_output", "output_id", f"output:{ID}", ID),
        ("submit_workflow", "inputs", '{"seed": 7}', {"seed": 7}),
        ("submit_workflow", "inputs", json.dumps('{"seed": 7}'), {"seed": 7}),
        ("submit_workflow", "inputs", '```json\n{"seed": 7}\n```', {"seed": 7}),
        ("submit_workflow", "matrix", '{"cfg": [4, 7]}', {"cfg": [4, 7]}),
        ("submit_workflow", "labels", '["fast"]', ["fast"]),
        ("submit_workflow", "labels", "fast, 'eu',", ["fast", "eu"]),
        ("submit_workflow", "after", f"{ID},{ID}", [ID, ID]),
        ("submit_workflow", "not_on", '"a"', ["a"]),
        ("submit_workflow", "after", json.dumps([ID]), [ID]),
        ("submit_workflow", "extraData", "{}", {}),
        ("submit_workflow", "dryRun", "True", True),
        ("submit_workflow", "dry_run", "false", False),
        ("submit_workflow", "path", '"C:\\my files\\a.json"', "C:\\my files\\a.json"),
        ("submit_workflow", "path", "file:///home/me/a%20b.json", "/home/me/a b.json"),
    ],
)
def test_another_way_to_write_it_is_taken_and_told(
    operation: str, name: str, value: object, meant: object
) -> None:
    arguments, warning = taken(operation, **{name: value})
    assert arguments[name] == meant
    assert f"{name} " in warning
    assert " was read as " in warning


@pytest.mark.parametrize(
    ("operation", "name", "value"),
    [
        ("list_workflows", "status", "completed"),
        ("list_workflows", "status", "nearly"),
        ("list_workflows", "status", "done"),  # completed, or ended?
        ("list_workflows", "status", 7),
        ("list_workflows", "since", 0),
        ("list_workflows", "since", "yesterday"),
        ("list_workflows", "since", "2026-13-45"),
        ("list_workflows", "since", [1]),
        ("list_workflows", "since", 10**400),
        ("list_workflows", "limit", "12"),
        ("workflow_status", "workflow_id", ID),
        ("workflow_status", "workflow_id", 7),
        ("workflow_status", "workflow_id", {"id": ID}),
        ("submit_workflow", "path", "a.json"),
        ("submit_workflow", "path", '"'),
        ("submit_workflow", "path", 7),
        ("submit_workflow", "inputs", '{"seed": '),
        ("submit_workflow", "inputs", "a fox"),
        ("submit_workflow", "after", 7),
        ("submit_workflow", "inputs", "a, b"),
        ("submit_workflow", "dry_run", "yes"),
        ("submit_workflow", "dry_run", 1),
        ("submit_workflow", "name", '{"a": 1}'),
    ],
)
def test_what_is_right_or_beyond_repair_stays_without_a_word(
    operation: str, name: str, value: object
) -> None:
    assert taken(operation, **{name: value}) == ({name: value}, "")


@pytest.mark.parametrize("value", [60_000, "60000", 60_000.0])
def test_seconds_that_look_like_milliseconds_are_kept_and_told(value: object) -> None:
    arguments, warning = taken("submit_workflow", workflow={}, runTimeoutS=value)
    assert arguments["runTimeoutS"] == value
    assert "60000 is 16.7 hours" in warning
    assert "60 if milliseconds were meant" in warning


@pytest.mark.parametrize("value", [3_600, 12_345, "soon", "inf", [1]])
def test_other_seconds_need_no_word(value: object) -> None:
    assert taken("wait_for_workflow", workflow_id=ID, timeout_s=value)[1] == ""


def test_unknown_arguments_are_named_with_the_nearest() -> None:
    _, warning = taken("wait_for_workflow", workflow_id=ID, timeout=5, seed=7, nothing=None, empty="")
    assert warning == "wait_for_workflow has no argument 'timeout' (nearest: timeout_s), 'seed': not used."
    _, warning = taken("submit_workflow", workflow=GRAPH, **{f"x{at}" * 100: 1 for at in range(9)})
    assert " and 4 more: not used. Set inputs of the workflow in inputs: {" in warning
    _, warning = taken("submit_workflow", workflow=GRAPH, seed=7)
    assert warning.endswith('not used. Set inputs of the workflow in inputs: {"seed": …}.')
    assert len(warning) < 600
    _, warning = taken("submit_workflow", workflow="fox", count=4)
    assert warning == "submit_workflow has no argument 'count' (nearest: variations): not used."


FILE = {"nodes": [], "links": [], "extra": {}, "config": {}, "version": 0.4, "last_node_id": 0}
LOOSE: list[dict[str, Any]] = [
    *({"prompt": GRAPH}, {"prompt": json.dumps(GRAPH)}, GRAPH, FILE, {"prompt": FILE}),
    *({"output": GRAPH}, {"output": FILE}, {"prompt": {"workflow": FILE}}),
    *({"input": {place: whole}} for place in ("prompt", "workflow") for whole in (GRAPH, FILE)),
]


@pytest.mark.parametrize("loose", LOOSE)
def test_a_graph_in_the_place_of_the_arguments_is_the_workflow(loose: dict[str, Any]) -> None:
    arguments, warning = taken("submit_workflow", **loose, priority="low", dry_run=True)
    workflow = arguments.pop("workflow")
    assert arguments == {"priority": "low", "dry_run": True}
    assert workflow in (GRAPH, json.dumps(GRAPH), FILE, {"workflow": FILE})
    assert "as the workflow" in warning
    assert "no argument" not in warning
    assert taken("submit_workflow", path="a.json", **loose)[0] == {"path": "a.json"}
    assert "workflow" not in taken("list_workflows", **loose)[0]


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ({"prompt": "a fox", "seed": 7, "size": "64x64"}, {"prompt": "a fox", "seed": 7, "size": "64x64"}),
        ({"prompt": "a fox", "inputs": {"cfg": 4}}, {"prompt": "a fox", "cfg": 4}),
        ({"prompt": "a fox", "inputs": {"prompt": "a cat"}}, {"prompt": "a cat"}),
        ({"prompt": ""}, None),
        ({"prompt": {"a": 1}}, None),
        ({"poem": "a fox"}, None),
        ({"prompt": "a fox", "inputs": "x"}, "x"),
    ],
)
def test_inputs_among_the_arguments_are_those_of_a_workflow_with_a_name(
    given: dict[str, Any], inputs: object
) -> None:
    taken, warnings = repaired("submit_workflow", SUBMIT, {"workflow": "sketch", **given})
    assert taken.get("inputs") == inputs
    moved = sorted(given.keys() & {"prompt", "seed", "size"}) if inputs != given.get("inputs") else []
    assert sorted(" ".join(warnings).partition("workflow: ")[2].rstrip(".").split(", ")) == (moved or [""])


@pytest.mark.parametrize("workflow", [{"1": {"class_type": "A"}}, '{"1": {"class_type": "A"}}'])
def test_what_stands_beside_a_graph_is_no_input(workflow: object) -> None:
    taken, (warning,) = repaired("submit_workflow", SUBMIT, {"workflow": workflow, "prompt": "a fox"})
    assert "inputs" not in taken
    assert "Set inputs of the workflow in inputs" in warning


@pytest.mark.parametrize("name", ["id", "job_id", "workflow"])
def test_the_one_argument_that_is_needed_may_have_another_name(name: str) -> None:
    taken, warnings = repaired("workflow_status", BY_NAME["workflow_status"].params, {name: "`6f1c2b5e`"})
    assert taken == {"workflow_id": "6f1c2b5e"}
    assert warnings == (f"'{name}' was read as workflow_id.",)


@pytest.mark.parametrize(
    "given", [{"id": "a", "workflowId": "b"}, {"id": 5}, {"id": ""}, {"id": "a", "job": "b"}]
)
def test_which_one_is_meant_has_to_be_plain(given: dict[str, Any]) -> None:
    taken, warnings = repaired("workflow_status", BY_NAME["workflow_status"].params, given)
    assert "workflow_id" not in taken
    assert "was read as" not in " ".join(warnings)


def test_nothing_that_could_be_a_graph_is_no_workflow() -> None:
    for each in ({"prompt": 7, "a": "b"}, {"nodes": "x"}, {"input": {"width": 5}}, {"output": "a.png"}):
        assert taken("submit_workflow", **each)[0] == {}


async def test_what_was_repaired_is_told_with_the_job_and_with_every_result(call: Bench) -> None:
    submitted = await call(
        "submit_workflow", workflow={"workflow": graphs.picture()}, priority="HIGH", seed=7
    )
    assert [text.split()[0] for text in submitted.warnings] == ["priority", "submit_workflow", "The"]
    assert submitted.text_with_repairs().count("priority 'HIGH'") == 1
    done = await call("wait_for_workflow", workflow_id=submitted.workflow_id, timeout=5)
    assert done.warnings[:3] == submitted.warnings
    assert "no argument 'timeout'" in done.warnings[-1]
    assert done.text_with_repairs().endswith("not used.")
    state = await call("workflow_status", workflow_id=submitted.workflow_id)
    assert state.warnings == submitted.warnings
    assert state.text_with_repairs() == state.text()
    assert "warnings" in (await call("list_workflows", status="Completed")).model_dump()
    assert "warnings" not in (await call("list_workflows", status="completed")).model_dump()


async def test_an_id_may_be_shortened_to_what_is_unique(call: Bench) -> None:
    first, second = [await call("submit_workflow", workflow=graphs.picture()) for _ in range(2)]
    done = await call("wait_for_workflow", workflow_id=first.workflow_id[:13].upper())
    assert (done.workflow_id, done.warnings) == (first.workflow_id, [])  # as long as our own lists write it
    unique = next(n for n in range(4, 8) if not second.workflow_id.startswith(first.workflow_id[:n]))
    done = await call("wait_for_workflow", workflow_id=first.workflow_id[:unique])
    assert f"read as '{first.workflow_id}'" in done.warnings[-1]
    output = done.outputs[0].output_id
    assert (await call("view_output", output_id=output[:13])).output.output_id == output
    await call("wait_for_workflow", workflow_id=second.workflow_id)
    with pytest.raises(NotFound):
        await call(
            "workflow_status", workflow_id="0123456789ab" if not output.startswith("0123") else "dead-dead"
        )


async def test_an_id_that_several_have_is_refused(call: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter([ID, ID[:-1] + "f"])
    object.__setattr__(call.services, "new_id", lambda: next(ids))
    for _ in range(2):
        await call("submit_workflow", workflow=graphs.picture())
    with pytest.raises(InvalidInput, match="several ids start with '0f8fad5b'"):
        await call("workflow_status", workflow_id="0f8fad5b")
