"""What a submit over HTTP has beyond the v1 contract: its place, a bounded wait, and safe repeats."""

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.domain import large_json
from comfy_mcp.domain.access import ApiKey, Right, digest_of
from comfy_mcp.domain.errors import StoreFault
from comfy_mcp.driving.engines import Engines
from comfy_mcp.store import Store
from http_sidecar.bounds import Bounds
from tests.contract_v1.shapes import assert_problem
from tests.operations.test_given import ui_file
from tests.operations.test_written import raises_behind
from tests.support.graphs import failing, picture, slow
from tests.support.sidecar import WORKFLOW, Answer, Sidecar, open_sidecar


async def submit(v1: Sidecar, graph: object, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await v1("POST", WORKFLOW, json={"workflow": graph}, headers=named)


async def test_the_location_is_where_its_state_is(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        answer = await submit(v1, picture())
        state = await v1("GET", answer.headers["Location"])
    assert state.body["workflowId"] == answer.body["workflowId"]
    assert "Preference-Applied" not in answer.headers


async def test_prefer_wait_answers_with_the_end_as_soon_as_it_is_there(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        done = await submit(v1, picture(), Prefer="wait=50")
        failed = await submit(v1, failing("boom"), Prefer="respond-async, wait=50")
        image = await v1("GET", done.body["outputs"][0]["url"])
    assert (done.status, done.body["status"]) == (200, "completed")
    assert done.headers["Preference-Applied"] == "wait=50"
    assert done.headers["Location"].endswith(done.body["workflowId"])
    assert image.data.startswith(b"\x89PNG")
    assert (failed.status, failed.body["status"]) == (200, "failed")


async def test_prefer_wait_is_bounded_and_leaves_the_job_running(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, bounds=Bounds(prefer_wait_s=0)) as v1:
        answer = await submit(v1, slow(), Prefer="wait=3600")
        assert answer.status == 202
        assert answer.headers["Preference-Applied"] == "wait=0"
        assert answer.body["status"] in {"queued", "running"}
        await v1("DELETE", answer.headers["Location"])


async def test_a_client_that_leaves_while_it_waits_ends_nothing(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1, asyncio.TaskGroup() as group:
        client = group.create_task(submit(v1, slow(steps=30), Prefer="wait=50"))
        while not (jobs := (await v1("GET", "/v1/comfyui/workflows")).body["workflows"]):
            assert not client.done()
        assert client.cancel()
        assert (await v1.ended(jobs[0]["workflowId"]))["status"] == "completed"
        assert client.cancelled()


async def test_a_key_that_may_not_read_gets_no_state_by_waiting(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        blind = ApiKey(name="b", digest=digest_of("b"), rights=frozenset({Right.SUBMIT}), created_at=1)
        await v1.services.store.add_key(blind)
        answer = await submit(v1, picture(), Prefer="wait=50", X_API_Key="b")
    assert answer.status == 202
    assert "Preference-Applied" not in answer.headers
    assert "outputs" not in answer.body


@pytest.mark.parametrize("retries", [False, True], ids=["a submit", "a retry"])
async def test_a_wait_that_fails_leaves_the_answer_of_the_submit(
    tmp_path: Path, retries: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def locked(*_args: Any) -> Any:
        raise StoreFault("The database is locked.", next_step="Wait.")

    async with open_sidecar(tmp_path) as v1:
        path, body = WORKFLOW, {"workflow": picture()}
        if retries:
            failed = await submit(v1, failing("boom"), Prefer="wait=50")
            path, body = f"{WORKFLOW}/{failed.body['workflowId']}/retry", {}
        with monkeypatch.context() as patched:
            patched.setattr(Store, "view_job", locked)
            answer = await v1("POST", path, json=body, headers={"Prefer": "wait=50"})
        assert (answer.status, answer.body["status"]) == (202, "queued")
        assert "Preference-Applied" not in answer.headers
        assert (await v1.ended(answer.body["workflowId"]))["status"] == ("failed" if retries else "completed")


async def test_prefer_wait_gives_the_end_of_a_job_although_something_raised_behind_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_sidecar(tmp_path) as v1:
        raises_behind(monkeypatch, Engines, "submit", RuntimeError("a defect"))
        answer = await submit(v1, picture(), Prefer="wait=50")
        assert (answer.status, answer.body["status"]) == (200, "completed")
        assert len((await v1("GET", "/v1/comfyui/workflows")).body["workflows"]) == 1


async def test_a_repeat_under_the_same_key_is_the_first_answer(tmp_path: Path) -> None:
    graph = picture()
    async with open_sidecar(tmp_path) as v1:
        first = await submit(v1, graph, Idempotency_Key="k")
        await v1.ended(first.body["workflowId"])
        again = await submit(v1, graph, Idempotency_Key='"k"')
        other = await submit(v1, graph, Idempotency_Key="another")
        jobs = (await v1("GET", "/v1/comfyui/workflows")).body["workflows"]
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Location"] == first.headers["Location"]
    assert other.body["workflowId"] != first.body["workflowId"]
    assert len(jobs) == 2


async def test_another_body_under_the_same_key_is_422(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        await submit(v1, picture(), Idempotency_Key="k")
        answer = await submit(v1, picture(), Idempotency_Key="k")
    body = assert_problem(answer, 422, "Unprocessable Content")
    assert body["code"] == "idempotency_mismatch"


async def test_many_at_once_under_one_key_make_one_job(tmp_path: Path) -> None:
    graph = picture()
    async with open_sidecar(tmp_path) as v1:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(submit(v1, graph, Idempotency_Key="k")) for _ in range(20)]
        jobs = (await v1("GET", "/v1/comfyui/workflows")).body["workflows"]
    statuses = {task.result().status for task in tasks}
    assert statuses == {202}, "a repeat gets the first answer, also while the first is still being taken"
    assert {task.result().body["workflowId"] for task in tasks if task.result().status == 202} == {
        jobs[0]["workflowId"]
    }
    assert len(jobs) == 1


async def test_one_clients_key_is_not_anothers(tmp_path: Path) -> None:
    graph = picture()
    async with open_sidecar(tmp_path) as v1:
        for name in ("ann", "bob"):
            rights = frozenset({Right.SUBMIT, Right.READ})
            await v1.services.store.add_key(
                ApiKey(name=name, digest=digest_of(name), rights=rights, created_at=1)
            )
        ids = {
            (await submit(v1, graph, Idempotency_Key="k", X_API_Key=name)).body["workflowId"]
            for name in ("ann", "bob")
        }
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_a_key_that_is_none_is_400(tmp_path: Path, key: str) -> None:
    async with open_sidecar(tmp_path) as v1:
        answer = await submit(v1, picture(), Idempotency_Key=key)
    assert_problem(answer, 400, "Bad Request")


# ---------------------------------------------------------------------------------------- files, dry runs


MEDIA = Path(__file__).parents[2] / "data" / "media"


@pytest.mark.parametrize("path", sorted(MEDIA.iterdir()), ids=lambda path: path.suffix)
async def test_a_file_is_a_workflow(tmp_path: Path, path: Path) -> None:
    """These were made with classes that the embedded engine lacks: it says so, class by class."""
    kind = {".png": "image/png", ".webp": "image/webp", ".mp4": "video/mp4"}.get(path.suffix)
    async with open_sidecar(tmp_path) as v1:
        headers = {"Content-Type": kind or "application/octet-stream"}
        answer = await v1("POST", f"{WORKFLOW}?dryRun=true", data=path.read_bytes(), headers=headers)
    if path.suffix == ".png":
        assert (answer.status, answer.body["status"]) == (200, "not_queued")
    else:
        assert (answer.status, answer.body["code"]) == (400, "graph_invalid")
        assert {item["classType"] for item in answer.body["missingClasses"]} >= {"SaveWEBM"}


async def test_json_as_a_file_may_be_in_any_encoding_and_has_its_arguments_in_the_query(
    tmp_path: Path,
) -> None:
    async with open_sidecar(tmp_path) as v1:
        for encoding in ("utf-8-sig", "utf-16", "utf-32"):
            answer = await v1(
                "POST",
                f"{WORKFLOW}?priority=high",
                data=json.dumps(picture()).encode(encoding),
                headers={"Content-Type": "application/octet-stream"},
            )
            assert answer.status == 202, answer.data
            assert (await v1.ended(answer.body["workflowId"]))["priority"] == "high"


async def test_json_without_a_stated_type_are_arguments(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        body = json.dumps({"workflow": picture()}).encode("utf-16")
        answer = await v1("POST", WORKFLOW, data=body, skip_auto_headers=["Content-Type"])
        assert answer.status == 202, answer.data


SHAPES: dict[str, Any] = {
    "file": ui_file(),
    "workflow": {"workflow": ui_file()},
    "text": {"workflow": json.dumps(ui_file())},
    "prompt": {"prompt": ui_file(), "client_id": "x"},
    "output": {"output": ui_file()},
    "export": {"output": {}, "workflow": ui_file()},
    "RunPod": {"input": {"workflow": ui_file()}},
}
"""Where a body has the file that the editor saves."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
async def test_the_editors_file_is_a_workflow_wherever_a_body_has_it(
    tmp_path: Path, shape: str, kind: str
) -> None:
    body, headers = json.dumps(SHAPES[shape]).encode(), {"Content-Type": kind}
    async with open_sidecar(tmp_path) as v1:
        checked = await v1("POST", f"{WORKFLOW}?dryRun=true&priority=low", data=body, headers=headers)
        assert (checked.status, checked.body["status"]) == (200, "not_queued"), checked.body
        assert checked.body["graph"]["1"]["inputs"] == {
            "width": 64,
            "height": 32,
            "batch_size": 1,
            "color": 0,
        }
        sent = await v1("POST", WORKFLOW, data=body, headers=headers)
        assert sent.status == 202, sent.body
        kept = await v1("GET", f"{sent.headers['Location']}/graph")
    assert kept.body["graph"] == checked.body["graph"]
    assert "nodes" in json.dumps(kept.body["file"]), "the file is kept as it came"


async def test_arguments_may_stand_beside_the_editors_file(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        checked = await v1("POST", WORKFLOW, json=ui_file() | {"dryRun": True, "inputs": {"width": 16}})
    assert (checked.status, checked.body["graph"]["1"]["inputs"]["width"]) == (200, 16)


async def test_a_file_is_bounded_by_its_kind(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, max_graph_bytes=2048, max_upload_bytes=4096) as v1:
        for head, limit in ((b"{", 2048), (b"\x89PNG\r\n\x1a\n", 4096)):
            headers = {"Content-Type": "application/octet-stream"}
            answer = await v1("POST", WORKFLOW, data=head + bytes(limit), headers=headers)
            assert (answer.status, answer.body["code"]) == (413, "too_large")
            assert answer.body["message"] == f"The workflow has more than {limit} bytes, the limit."
            assert "size" not in answer.body


async def test_a_file_with_a_wrong_type_is_told_how_to_send_it(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        answer = await v1("POST", WORKFLOW, data=(MEDIA / "picture.png").read_bytes(), headers={
            "Content-Type": "application/x-www-form-urlencoded"})  # fmt: skip
    assert (answer.status, answer.body["code"]) == (400, "invalid_argument")
    assert "Content-Type: image/png" in answer.body["nextStep"]


async def test_a_dry_run_checks_and_queues_nothing(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as v1:
        headers = {"Prefer": "wait=5", "Idempotency-Key": "k"}
        graph = picture()
        answer = await v1("POST", WORKFLOW, json={"workflow": graph, "dryRun": True}, headers=headers)
        assert (answer.status, answer.body["status"]) == (200, "not_queued")
        assert answer.body["graph"] == graph
        assert answer.body["nodeCount"] == len(graph)
        assert "Location" not in answer.headers
        assert (await v1("GET", "/v1/comfyui/workflows")).body["workflows"] == []
        wrong = picture()
        wrong["1"]["class_type"] = "Nope"
        dry = await v1("POST", f"{WORKFLOW}?dryRun=1", json={"workflow": wrong})
        real = await v1("POST", WORKFLOW, json={"workflow": wrong})
        assert (dry.status, dry.body["code"]) == (400, "graph_invalid")
        assert dry.body["message"] == real.body["message"]


async def test_a_body_of_more_than_a_workflow_may_have_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    headers = {"Content-Type": "application/json"}
    large = b'{"workflow": ' + b"x" * 4_000
    spaced = b'{"workflow":' + b" " * 10_000 + json.dumps(picture()).encode() + b"}"
    async with open_sidecar(tmp_path, max_graph_bytes=2_000) as v1:
        refused = await v1("POST", WORKFLOW, data=large, headers=headers)
        taken = await v1("POST", WORKFLOW, data=spaced, headers=headers)
    assert assert_problem(refused, 413, "Content Too Large")["code"] == "too_large"
    assert taken.status == 202


async def test_large_json_is_parsed_and_written_away_from_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the body over the store to the engine: everywhere, or one place alone still stops everybody."""
    loop_thread, where = threading.get_ident(), []
    loads = large_json.loads

    def parsed(text: str, **hooks: Any) -> Any:
        if len(text) > large_json.LARGE_BYTES:
            where.append(threading.get_ident())
        return loads(text, **hooks)

    def watched(write: Callable[..., str]) -> Callable[..., str]:
        def written(value: object, *, large: bool) -> str:
            if large or large_json.is_large(value):
                where.append(threading.get_ident())
            return write(value, large=large)

        return written

    monkeypatch.setattr(large_json, "LARGE_BYTES", 100)
    monkeypatch.setattr(large_json, "LARGE_VALUES", 10)
    async with open_sidecar(tmp_path) as v1:
        monkeypatch.setattr(large_json, "loads", parsed)
        for name in ("dumps", "strict_text"):
            monkeypatch.setattr(large_json, name, watched(getattr(large_json, name)))
        answer = await submit(v1, picture())
        assert answer.status == 202
        assert (await v1.ended(answer.body["workflowId"]))["status"] == "completed"
    assert len(where) >= 4, "body, check, store, engine"
    assert loop_thread not in where
