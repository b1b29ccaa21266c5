"""Comfy API v2 from the client's side: what is sent, and what each answer means. The server is scripted."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from comfy_mcp.domain.errors import EngineBadAnswer, EngineFault, EngineUnreachable, InvalidInput, NotFound
from comfy_mcp.domain.events import FailureKind
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.prompt import PromptEnding
from comfy_mcp.library.input_files import InputSource
from comfy_mcp.places.cloud.comfy_api import DETAIL_CHARS, ComfyApi
from comfy_mcp.places.cloud.http import BUSY_S, MESSAGE_CHARS, MOST_BUSY_S, REFUSED_S, CloudHttp
from comfy_mcp.places.cloud.service import CloudJob, NotNow
from comfy_mcp.places.downloads import Downloads
from comfy_mcp.places.protocol import Accepted, Rejected
from comfy_mcp.settings import EngineSettings, load_settings

KEY = "a-secret-key"
A = PromptId("prompt-a")
GRAPH = {"1": {"class_type": "SaveImage", "inputs": {}}}
PREFIX = "/deployment/d1"
JOB = f"{PREFIX}/api/v2/jobs/j1"


def job_body(status: str = "queued", **more: Any) -> dict[str, Any]:
    urls = {"self": JOB, "events": f"{JOB}/events", "cancel": f"{JOB}/cancel"}
    return {"id": "j1", "status": status, "outputs": [], "error": None, "urls": urls, **more}


def error_body(code: str, message: str = "the reason") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


class Script:
    """The service: `answers` in turn. `seen`: method, path with query, headers, body."""

    def __init__(self) -> None:
        self.answers: list[web.Response | Exception] = []
        self.seen: list[tuple[str, str, Any, bytes]] = []

    def says(self, body: Any = None, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, bytes):
            self.answers.append(web.Response(body=body, status=status, headers=named))
        else:
            self.answers.append(web.json_response(body, status=status, headers=named))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path_qs, request.headers, await request.read()))
        return self.answers.pop(0)  # type: ignore[return-value]


@pytest.fixture
def script() -> Script:
    return Script()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
async def origin(script: Script) -> AsyncIterator[str]:
    async with serving(script) as url:
        yield url


@pytest.fixture
async def api(origin: str) -> AsyncIterator[ComfyApi]:
    lane = EngineSettings(
        id=EngineId("cloud"),
        url=f"{origin}{PREFIX}",
        ws_url="",
        headers={"Authorization": SecretStr(f"Bearer {KEY}")},
    )
    api = ComfyApi(CloudHttp(lane, load_settings(request_timeout_s=5.0)), Downloads(private=False))
    yield api
    await api.close()


async def test_a_submit_sends_the_graph_under_its_own_key(api: ComfyApi, script: Script) -> None:
    script.says(job_body(), 201)
    extra = {"extra_pnginfo": {"workflow": 1}}
    assert await api.create(A, GRAPH, extra) == Accepted(dropped={}, reference=JOB)
    ((method, path, headers, body),) = script.seen
    assert (method, path) == ("POST", f"{PREFIX}/api/v2/jobs")
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Idempotency-Key"] == A
    assert json.loads(body) == {"workflow": GRAPH, "extra_data": extra, "metadata": {"comfy_bridge": A}}


async def test_a_service_without_labels_is_asked_once(api: ComfyApi, script: Script) -> None:
    script.says(error_body("metadata_not_supported"), 422)
    script.says(job_body(), 201)
    script.says(job_body(), 201)
    assert isinstance(await api.create(A, GRAPH, {}), Accepted)
    assert isinstance(await api.create(A, GRAPH, {}), Accepted)
    assert [b"metadata" in body for _, _, _, body in script.seen] == [True, False, False]


async def test_a_repeat_that_is_refused_finds_the_first_one(api: ComfyApi, script: Script) -> None:
    script.says(error_body("idempotency_key_reuse"), 422)
    script.says({"jobs": [{"id": "j1"}]})
    assert await api.create(A, GRAPH, {}) == Accepted(dropped={}, reference=JOB)
    assert script.seen[1][1] == f"{PREFIX}/api/v2/jobs?metadata%5Bcomfy_bridge%5D={A}&limit=1"


@pytest.mark.parametrize("jobs", [{"jobs": []}, {"jobs": None}, {"jobs": [7]}, {"jobs": [{"id": 7}]}])
async def test_what_is_not_found_is_none(api: ComfyApi, script: Script, jobs: dict[str, Any]) -> None:
    script.says(jobs)
    assert await api.find(A) is None


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (422, "invalid_workflow", FailureKind.VALIDATION),
        (422, "idempotency_key_reuse", FailureKind.VALIDATION),
        (422, "missing_asset", FailureKind.MISSING_INPUT),
        (413, "too_large", FailureKind.VALIDATION),
        (400, "", FailureKind.VALIDATION),
    ],
)
async def test_what_can_not_run_is_refused(
    api: ComfyApi, script: Script, status: int, code: str, kind: FailureKind
) -> None:
    script.says(error_body(code), status)
    script.says({"jobs": []})
    answer = await api.create(A, GRAPH, {})
    assert isinstance(answer, Rejected)
    assert (answer.failure.kind, answer.failure.message) == (kind, "cloud refused it: the reason")


@pytest.mark.parametrize(
    ("status", "retry_after", "after_s"),
    [
        (429, "12", 12.0),
        (429, "99999", MOST_BUSY_S),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", BUSY_S),
        (401, "", REFUSED_S),
        (402, "", REFUSED_S),
        (403, "", REFUSED_S),
        (404, "", REFUSED_S),
    ],
)
async def test_what_may_pass_was_not_taken(
    api: ComfyApi, script: Script, status: int, retry_after: str, after_s: float
) -> None:
    script.says(error_body("some_code"), status, Retry_After=retry_after)
    with pytest.raises(NotNow, match="cloud, submit: the reason") as caught:
        await api.create(A, GRAPH, {})
    assert caught.value.after_s == after_s


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (error_body("internal"), 500),
        (b"<html>", 200),
        (b"", 302),
        ({"status": "queued"}, 201),
        ({"urls": {"self": "https://elsewhere.example/jobs/j1"}}, 201),
    ],
)
async def test_what_is_no_answer_is_a_fault(api: ComfyApi, script: Script, body: Any, status: int) -> None:
    script.says(body, status)
    with pytest.raises(EngineBadAnswer):
        await api.create(A, GRAPH, {})


async def test_no_server_is_unreachable(script: Script) -> None:
    async with serving(script) as url:
        pass
    lane = EngineSettings(id=EngineId("cloud"), url=url, ws_url="")
    api = ComfyApi(CloudHttp(lane, load_settings()), Downloads(private=False))
    with pytest.raises(EngineUnreachable, match="cloud, list of jobs: nothing answers there"):
        await api.check()
    await api.close()


async def test_a_key_that_a_service_repeats_is_not_shown(api: ComfyApi, script: Script) -> None:
    script.says(error_body("unauthorized", f"{KEY} is no key"), 401)
    with pytest.raises(NotNow) as caught:
        await api.check()
    assert KEY not in str(caught.value)


async def test_a_check_asks_for_little(api: ComfyApi, script: Script) -> None:
    script.says({"jobs": []})
    script.says({}, 404)
    await api.check()
    with pytest.raises(EngineBadAnswer):
        await api.check()
    assert script.seen[0][1] == f"{PREFIX}/api/v2/jobs?limit=1"


@pytest.mark.parametrize(
    ("body", "running", "ending"),
    [
        (job_body("queued"), False, None),
        (job_body("a later word"), False, None),
        (job_body("running", progress={"current_node": "1"}), True, None),
        (job_body("canceling"), True, None),
        (job_body("succeeded"), False, PromptEnding.SUCCESS),
        (job_body("canceled"), False, PromptEnding.INTERRUPTED),
    ],
)
async def test_each_status_has_its_meaning(
    api: ComfyApi, script: Script, body: dict[str, Any], running: bool, ending: PromptEnding | None
) -> None:
    script.says(body)
    job = await api.job(JOB)
    assert job is not None
    assert (job.running, job.ending, job.failure) == (running, ending, None)
    assert job.node == ("1" if body.get("progress") else None)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (job_body("failed"), FailureKind.NODE_ERROR, "The service says: failed."),
        (job_body("expired"), FailureKind.NODE_ERROR, "The service says: expired."),
        (job_body("failed", error={"code": "oom", "message": "full"}), FailureKind.OOM, "full"),
        (
            job_body("failed", error={"code": "node_execution_error", "message": "boom", "node_id": "3"}),
            FailureKind.NODE_ERROR,
            "boom",
        ),
    ],
)
async def test_a_failure_says_what_the_service_said(
    api: ComfyApi, script: Script, body: dict[str, Any], kind: FailureKind, message: str
) -> None:
    script.says(body)
    job = await api.job(JOB)
    assert job is not None
    assert job.failure is not None
    assert (job.ending, job.failure.kind, job.failure.message) == (PromptEnding.ERROR, kind, message)


@pytest.mark.parametrize(
    ("metrics", "ran_ms"),
    [
        ({"execution_ms": 1234.4}, 1234),
        ({}, None),
        ({"execution_ms": "7"}, None),
        ({"execution_ms": -1}, None),
    ],
)
async def test_how_long_it_ran_is_what_the_service_says_at_the_end(
    api: ComfyApi, script: Script, metrics: dict[str, Any], ran_ms: int | None
) -> None:
    script.says(job_body("succeeded", metrics=metrics))
    script.says(job_body("running", metrics=metrics))
    jobs = [await api.job(JOB) for _ in range(2)]
    assert [None if job is None else job.ran_ms for job in jobs] == [ran_ms, None]


async def test_a_failure_keeps_node_and_traceback(api: ComfyApi, script: Script) -> None:
    error = {"code": "x", "message": "m", "node_id": 3, "class_type": "K", "traceback": "line 1"}
    script.says(job_body("failed", error=error))
    job = await api.job(JOB)
    assert job is not None
    assert job.failure is not None
    assert (job.failure.node_id, job.failure.node_type, job.failure.detail) == ("3", "K", "line 1")


async def test_of_a_failure_a_bounded_part_is_kept_and_all_of_it_can_be_stored(
    api: ComfyApi, script: Script
) -> None:
    long = "half \ud83d nul \0 " + "x" * 100_000
    names = ("code", "message", "node_id", "class_type", "traceback")
    script.says(job_body("failed", error=dict.fromkeys(names, long)))
    script.says(job_body("failed", error={"traceback": [long], "message": {"a": long}}))
    for detail in (DETAIL_CHARS, 0):
        job = await api.job(JOB)
        assert job is not None
        assert job.failure is not None
        found = job.failure
        assert len(found.detail or "") == detail
        texts = [found.message, found.node_id or "", found.node_type or ""]
        assert max(map(len, texts)) == MESSAGE_CHARS
        assert not {"\ud83d", "\0"} & set("".join(texts))


@pytest.mark.parametrize(("status", "gone"), [(404, True), (410, True), (400, False), (200, False)])
async def test_a_job_is_there_or_gone_or_unreadable(
    api: ComfyApi, script: Script, status: int, gone: bool
) -> None:
    script.says({"status": 7}, status)
    if gone:
        assert await api.job(JOB) is None
    else:
        with pytest.raises(EngineBadAnswer):
            await api.job(JOB)


async def test_the_key_goes_to_the_service_only(api: ComfyApi, script: Script) -> None:
    with pytest.raises(EngineBadAnswer, match="another host"):
        await api.job("https://elsewhere.example/api/v2/jobs/j1")
    assert script.seen == []


async def fetched(job: CloudJob | None) -> bytes:
    assert job is not None
    async with job.made[0].open() as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_outputs_are_fetched_without_the_key(api: ComfyApi, script: Script, origin: str) -> None:
    outputs = [{"name": "x.png", "node_id": "9", "url": f"{origin}/files/x?sig=1"}, "no output"]
    script.says(job_body("succeeded", outputs=outputs))
    script.says(b"bytes")
    job = await api.job(JOB)
    assert job is not None
    assert (job.made[0].name, job.made[0].node, len(job.made)) == ("x.png", "9", 1)
    assert await fetched(job) == b"bytes"
    assert "Authorization" not in script.seen[1][2]


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (410, NotFound), (500, EngineBadAnswer), (429, NotNow)]
)
async def test_an_output_that_is_not_given(
    api: ComfyApi, script: Script, origin: str, status: int, error: type[Exception]
) -> None:
    script.says(job_body("succeeded", outputs=[{"url": f"{origin}/x"}]))
    script.says(b"", status)
    with pytest.raises(error):
        await fetched(await api.job(JOB))


async def test_an_output_elsewhere_must_be_public(api: ComfyApi, script: Script) -> None:
    script.says(job_body("succeeded", outputs=[{"url": "http://127.0.0.1:1/metadata"}]))
    with pytest.raises(InvalidInput, match="not on the public internet"):
        await fetched(await api.job(JOB))


async def test_a_cancel_is_a_post(api: ComfyApi, script: Script) -> None:
    script.says(job_body("canceling"))
    await api.cancel(JOB)
    assert script.seen[0][:2] == ("POST", f"{JOB}/cancel")


def source(*chunks: bytes) -> InputSource:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        async def bytes_of() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        yield bytes_of()

    return InputSource(name="photo.png", size=None, open=opened)


async def test_a_file_becomes_an_asset(api: ComfyApi, script: Script) -> None:
    script.says({"id": "asset-1"}, 201)
    said = await api.put(source(b"one", b"two"))
    assert said == {"__type": "core/ASSET", "info": {"id": "asset-1"}}
    _, path, _, body = script.seen[0]
    assert path == f"{PREFIX}/api/v2/assets"
    assert body.index(b"image/png") < body.index(b"photo.png") < body.index(b"onetwo")


@pytest.mark.parametrize(("body", "status"), [({"id": 7}, 201), (error_body("no"), 413)])
async def test_a_file_that_is_not_taken_is_a_fault(
    api: ComfyApi, script: Script, body: dict[str, Any], status: int
) -> None:
    script.says(body, status)
    with pytest.raises(EngineFault):
        await api.put(source(b"x"))
