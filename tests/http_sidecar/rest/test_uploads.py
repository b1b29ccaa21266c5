"""Input files over HTTP, all the way to the engine's folder."""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from mcp.client import Client
from mcp_types import TextContent
from PIL import Image
from yarl import URL

from comfy_mcp.domain.access import DEFAULT_KEY_RIGHTS, ApiKey, digest_of
from comfy_mcp.domain.file_inputs import FOLDER
from http_sidecar import api_keys
from http_sidecar.bounds import Bounds
from tests.contract_v1.shapes import assert_problem
from tests.support.mcp_http import client_with_key
from tests.support.sidecar import Answer, Sidecar, open_sidecar

INPUTS = "/v1/comfyui/inputs"
LIMIT = 64 * 1024


@pytest.fixture
async def v1(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with open_sidecar(tmp_path, max_upload_bytes=LIMIT) as sidecar:
        yield sidecar


async def upload(
    v1: Sidecar, content: Any, *, name: str = "photo.png", query: str = "", **fields: str
) -> Answer:
    form = aiohttp.FormData(quote_fields=False)  # as browsers and curl do
    for field, value in fields.items():
        form.add_field(field, value)
    form.add_field("image", content, filename=name)
    return await v1("POST", f"{INPUTS}{query}", data=form)


def png(color: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(stream, "PNG")
    return stream.getvalue()


async def test_an_uploaded_picture_is_there_for_a_workflow(v1: Sidecar) -> None:
    answer = await upload(v1, png("red"))
    assert answer.status == 201
    assert answer.body == {"name": "photo.png", "subfolder": "", "type": "input"}
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": answer.body["name"]}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "again"}},
    }
    assert (await v1.ended(await v1.submit(graph)))["status"] == "completed"


@pytest.mark.parametrize("name", ["my photo.png", "grün 火.png", "100%.png", "a+b=c&d;e'f.png"])
async def test_a_name_is_kept_as_it_is(v1: Sidecar, tmp_path: Path, name: str) -> None:
    assert (await upload(v1, b"1", name=name)).body["name"] == name
    assert (tmp_path / "engine" / "input" / name).exists()


async def test_other_bytes_under_a_used_name_come_back_renamed(v1: Sidecar) -> None:
    names = [(await upload(v1, png(color))).body["name"] for color in ("red", "red", "blue")]
    assert names == ["photo.png", "photo.png", "photo (1).png"]
    replaced = await upload(v1, png("green"), query="?overwrite=true")
    assert replaced.body["name"] == "photo.png"


async def test_a_subfolder_comes_in_the_form_or_in_the_query(v1: Sidecar, tmp_path: Path) -> None:
    in_form = await upload(v1, b"1", subfolder="a/b")
    in_query = await upload(v1, b"2", query="?subfolder=c")
    assert (in_form.body["subfolder"], in_query.body["subfolder"]) == ("a/b", "c")
    inputs = tmp_path / "engine" / "input"
    assert (inputs / "a/b/photo.png").read_bytes() == b"1"
    assert (inputs / "c/photo.png").read_bytes() == b"2"


@pytest.mark.parametrize("name", ["../x.png", "..", "a/b.png", "a\\b.png", "C:x.png", "a\u2028b.png"])
async def test_a_name_that_leads_elsewhere_is_refused(v1: Sidecar, tmp_path: Path, name: str) -> None:
    answer = await upload(v1, b"1", name=name)
    body = assert_problem(answer, 400, "Bad Request")
    assert body["code"] == "path_not_allowed"
    assert not list((tmp_path / "engine").rglob("*.png"))


@pytest.mark.parametrize("subfolder", ["..", "a/../../b", "/etc", "a\\..\\..", "%2e%2e", "..%2f.."])
async def test_a_subfolder_that_leads_elsewhere_is_refused_or_a_mere_name(
    v1: Sidecar, tmp_path: Path, subfolder: str
) -> None:
    answer = await upload(v1, b"1", subfolder=subfolder)
    assert answer.status in {201, 400}
    inputs = (tmp_path / "engine" / "input").resolve()
    assert all(path.resolve().is_relative_to(inputs) for path in tmp_path.rglob("photo.png"))
    by_query = await v1("POST", f"{INPUTS}?subfolder=%2e%2e%2f%2e%2e", data={"image": io.BytesIO(b"1")})
    assert by_query.status == 400


class Sink:
    """An engine's /upload/image that notes how many uploads came to their end."""

    def __init__(self) -> None:
        self.whole = 0
        self.features: dict[str, int] = {}

    async def tell(self, _: web.Request) -> web.Response:
        return web.json_response(self.features)

    async def receive(self, request: web.Request) -> web.Response:
        await request.content.read()
        self.whole += 1
        return web.json_response({"name": "kept.bin", "subfolder": "", "type": "input"})


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[tuple[Sidecar, Sink]]:
    sink = Sink()
    app = web.Application()
    app.router.add_post("/upload/image", sink.receive)
    app.router.add_get("/features", sink.tell)
    async with (
        TestServer(app) as engine,
        open_sidecar(
            tmp_path,
            engine_url=str(engine.make_url("")),
            max_upload_bytes=LIMIT,
            bounds=Bounds(body_timeout_s=1),
        ) as sidecar,
    ):
        yield sidecar, sink


async def test_a_file_at_the_limit_is_taken_and_one_byte_more_is_not(sink: tuple[Sidecar, Sink]) -> None:
    v1, engine = sink
    assert (await upload(v1, b"x" * LIMIT)).status == 201
    chunked = await upload(v1, pieces(LIMIT + 1, 1000))
    body = assert_problem(chunked, 413, "Content Too Large")
    assert body["code"] == "too_large"
    declared = await upload(v1, b"x" * (LIMIT + 20_000))
    assert_problem(declared, 413, "Content Too Large")
    assert engine.whole == 1


async def test_a_file_beyond_the_engines_own_limit_is_refused_in_its_words(
    sink: tuple[Sidecar, Sink],
) -> None:
    v1, engine = sink
    engine.features["max_upload_size"] = 30_000
    refused = assert_problem(await upload(v1, b"x" * 30_000), 413, "Content Too Large")
    assert refused["code"] == "too_large"
    assert "--max-upload-size" in refused["nextStep"]
    assert (await upload(v1, b"x" * 25_000)).status == 201
    engine.features["max_upload_size"] = 10 * LIMIT
    assert (await upload(v1, b"x" * LIMIT)).status == 201
    assert engine.whole == 2


async def pieces(total: int, step: int) -> AsyncIterator[bytes]:
    for start in range(0, total, step):
        yield b"x" * min(step, total - start)


async def test_a_file_that_stops_coming_is_given_up(sink: tuple[Sidecar, Sink]) -> None:
    v1, engine = sink
    forever = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield b"begun"
        await forever.wait()

    assert_problem(await upload(v1, stalled()), 408, "Request Timeout")
    assert engine.whole == 0


async def test_a_large_file_is_not_bounded_by_the_limit_of_other_bodies(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, bounds=Bounds(body_bytes=2048), max_graph_bytes=1024) as v1:
        assert (await upload(v1, pieces(3_000_000, 50_000), name="large.bin")).status == 201
    assert (tmp_path / "engine" / "input" / "large.bin").stat().st_size == 3_000_000


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"not a form", "text/plain"),
        (b"{}", "application/json"),
        (b"garbage", "multipart/form-data"),
        (b"garbage", "multipart/form-data; boundary=b"),
        (
            b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
        ),
        (b"--b\r\n\r\n--b\r\n\r\n" * 40 + b"--b--\r\n", "multipart/form-data; boundary=b"),
        (
            b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n" + b"1" * 9000 + b"\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="\x05"\r\n\r\n1\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
        (
            b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n1\r\n--c--\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
        ),
        (
            b"--b\r\nContent-Disposition: form-data; name=_charset_\r\n\r\n" + b"u" * 99 + b"\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
        ),
        (
            b"--%b\r\nContent-Disposition: form-data; name=_charset_\r\n\r\nutf-8\r\n--%b--\r\n"
            % (b"-" * 40, b"-" * 40),
            f"multipart/form-data; boundary={'-' * 40}",
        ),
    ],
)
async def test_what_is_no_form_with_a_file_is_400(v1: Sidecar, body: bytes, content_type: str) -> None:
    answer = await v1("POST", INPUTS, data=body, headers={"Content-Type": content_type})
    assert_problem(answer, 400, "Bad Request")


async def test_an_engine_that_is_down_is_503(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path, engine_url="http://127.0.0.1:9") as v1:
        answer = await upload(v1, b"1")
    assert_problem(answer, 503, "Service Unavailable")


async def test_with_several_engines_the_bridge_keeps_it_until_one_runs_a_workflow(
    v1: Sidecar, tmp_path: Path
) -> None:
    (up,) = v1.settings.engine_urls
    async with open_sidecar(
        tmp_path / "two", engine_url=f"down=http://127.0.0.1:9,up={up}", connect_timeout_s=2.0
    ) as two:
        answer = await upload(two, png("red"), name="here.png")
        assert (answer.status, answer.body["subfolder"]) == (201, FOLDER)
        assert not [*(tmp_path / "engine" / "input").rglob("*.png")]
        done = await two.ended(await two.submit(with_cat(f"{FOLDER}/{answer.body['name']}")))
        assert done["status"] == "completed"
    assert len([*(tmp_path / "engine" / "input").rglob("*.png")]) == 1


async def test_an_upload_that_never_pauses_but_crawls_is_408(tmp_path: Path) -> None:
    async def crawl() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0)

    sink, bounds = Sink(), Bounds(body_timeout_s=0.3, upload_bytes_per_s=10**9)
    app = web.Application()
    app.router.add_post("/upload/image", sink.receive)
    async with (
        TestServer(app) as engine,
        open_sidecar(tmp_path, engine_url=str(engine.make_url("")), bounds=bounds) as v1,
    ):
        assert_problem(await upload(v1, crawl()), 408, "Request Timeout")
        assert sink.whole == 0
        assert (await upload(v1, png("red"))).status == 201


def with_cat(name: str) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "cat"}},
    }


async def upload_address(client: Client) -> URL:
    """What the answer to a wrong path tells an agent over HTTP."""
    refused = await client.call_tool("submit_workflow", {"workflow": with_cat("./cat.png")})
    assert isinstance(refused.content[0], TextContent)
    return URL(re.findall(r'curl -F image=@FILE "([^"]+)"', refused.content[0].text)[0])


async def test_an_agent_without_a_key_of_its_own_uploads_with_a_ticket_once(tmp_path: Path) -> None:
    async with (
        open_sidecar(tmp_path, http_key="s3cret") as v1,
        client_with_key(f"{v1.url}/mcp", "legacy", "s3cret") as client,
    ):
        address = await upload_address(client)
        assert f"{address.scheme}://{address.authority}" == v1.url
        query = f"?{address.query_string}"
        assert (await v1("GET", f"/v1/comfyui/queue{query}")).status == 401
        answer = await upload(v1, png("red"), name="cat.png", query=query)
        assert (answer.status, answer.body["name"]) == (201, "cat.png")
        assert (await upload(v1, png("blue"), query=query)).status == 401
        assert (await upload(v1, png("blue"), query="?ticket=nothing")).status == 401
        done = await client.call_tool("submit_workflow", {"workflow": with_cat("cat.png")})
        assert not done.is_error


async def test_a_ticket_ends_with_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "REFRESH_S", 0.0)
    async with open_sidecar(tmp_path, http_key="s3cret", public_url="https://pictures.example") as v1:
        alice = ApiKey(name="alice", digest=digest_of("a"), rights=DEFAULT_KEY_RIGHTS, created_at=1)
        await v1.services.store.add_key(alice)
        async with client_with_key(f"{v1.url}/mcp", "legacy", "a") as client:
            first, second = await upload_address(client), await upload_address(client)
        assert str(first).startswith("https://pictures.example/v1/comfyui/inputs?ticket=")
        assert (await upload(v1, png("red"), query=f"?{first.query_string}")).status == 201
        await v1.services.store.revoke_key("alice", at=2)
        assert (await upload(v1, png("red"), query=f"?{second.query_string}")).status == 401
