"""Clients of Comfy API v2 that break off, repeat, lie about sizes, or send the shapes of another API."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from blake3 import blake3

from http_sidecar.bounds import Bounds
from tests.http_sidecar.comfy_api.conftest import API
from tests.support.comfy_sdks import png
from tests.support.graphs import picture
from tests.support.sidecar import Answer, Sidecar, open_sidecar

ASSETS, JOBS = f"{API}/assets", f"{API}/jobs"
LIMIT = 64 * 1024
HEAD = (
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n"
)
FORM = {"Content-Type": "multipart/form-data; boundary=xyz"}


@pytest.fixture
async def v2(tmp_path: Path) -> AsyncIterator[Sidecar]:
    """Without keys; small limits."""
    bounds = Bounds(body_timeout_s=0.5)
    async with open_sidecar(tmp_path, bounds=bounds, max_upload_bytes=LIMIT) as sidecar:
        yield sidecar


def code_of(answer: Answer) -> tuple[int, str]:
    return answer.status, str(answer.body["error"]["code"])


def kept(v2: Sidecar) -> list[str]:
    """The files of uploads. What one that was cut off has begun has no name yet, and is swept in an hour."""
    folders = (v2.settings.inputs_path, v2.settings.assets_path)
    names = [each.name for folder in folders if folder.exists() for each in folder.iterdir()]
    return [name for name in names if not name.startswith(".part-")]


async def upload(v2: Sidecar, data: Any, **fields: str) -> Answer:
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    form.add_field("file", data, filename="a.png")
    return await v2("POST", ASSETS, data=form)


async def test_an_upload_that_breaks_off_makes_no_asset_and_one_that_pauses_is_408(v2: Sidecar) -> None:
    host, port = v2.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {ASSETS} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {FORM['Content-Type']}\r\n"
    writer.write(f"{head}Content-Length: 9000\r\n\r\n".encode() + HEAD + b"x" * 1_000)
    await writer.drain()
    answer = await reader.readline()  # it waits for the rest, and then says so
    assert b" 408 " in answer
    writer.close()
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}Content-Length: 9000\r\n\r\n".encode() + HEAD + b"x" * 1_000)
    await writer.drain()
    writer.transport.abort()
    assert (await upload(v2, png())).status == 201
    assert len(kept(v2)) == 2


async def test_sizes_that_are_too_large_are_413_declared_or_not(v2: Sidecar) -> None:
    assert code_of(await upload(v2, b"x" * (2 * LIMIT))) == (413, "too_large")

    async def endless() -> AsyncIterator[bytes]:
        yield HEAD
        for _ in range(100):
            yield b"x" * 4_096

    undeclared = await v2("POST", ASSETS, data=endless(), headers=FORM)
    assert code_of(undeclared) == (413, "too_large")
    assert kept(v2) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not a form",
        b"--xyz--\r\n",
        b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--xyz--\r\n',
    ],
)
async def test_a_form_without_a_file_is_400(v2: Sidecar, body: bytes) -> None:
    assert code_of(await v2("POST", ASSETS, data=body, headers=FORM)) == (400, "invalid_argument")
    assert kept(v2) == []


async def test_a_field_that_never_ends_is_refused(v2: Sidecar) -> None:
    assert code_of(await upload(v2, png(), file_path="x" * 9_000)) == (400, "invalid_argument")


async def test_the_same_file_at_once_is_one_asset(v2: Sidecar) -> None:
    async with asyncio.TaskGroup() as tasks:
        sent = [tasks.create_task(upload(v2, png())) for _ in range(8)]
    assert {each.result().status for each in sent} == {201}
    assert len({each.result().body["id"] for each in sent}) == 1
    assert len(kept(v2)) == 2  # the bytes and the record


@pytest.mark.parametrize(
    "claimed", ["blake3:", "sha256:00", f"blake3:{blake3(b'other').hexdigest()}", "x" * 500]
)
async def test_a_wrong_hash_keeps_nothing(v2: Sidecar, claimed: str) -> None:
    assert code_of(await upload(v2, png(), expected_hash=claimed)) == (409, "hash_mismatch")
    assert kept(v2) == []


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": picture()},  # ComfyUI's own
        {"workflow": [picture()]},
        {"workflow": picture(), "extra_data": "text"},
        {"workflow": {"nodes": [], "links": [], "last_node_id": 0, "version": 0.4}},
        {"workflow": {"prompt": {"1": {"class_type": "Nope", "inputs": {}}}}},
    ],
)
async def test_other_shapes_are_errors_that_say_what_to_send(v2: Sidecar, body: dict[str, Any]) -> None:
    answer = await v2("POST", JOBS, json=body)
    assert answer.status in {400, 422}
    assert len(answer.body["error"]["message"]) > 30
    assert (await v2("GET", JOBS)).body["jobs"] == []


async def test_a_client_that_repeats_one_key_at_once_gets_one_job(v2: Sidecar) -> None:
    graph, headers = picture(), {"Idempotency-Key": "again"}
    async with asyncio.TaskGroup() as tasks:
        sent = [
            tasks.create_task(v2("POST", JOBS, json={"workflow": graph}, headers=headers)) for _ in range(8)
        ]
    assert len({each.result().body["id"] for each in sent}) == 1
    assert len((await v2("GET", JOBS)).body["jobs"]) == 1
