"""Previews of outputs, and of a workflow that runs."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from tests.contract_v1.shapes import assert_problem
from tests.http_sidecar.rest.test_output_bytes import etag
from tests.support.files_engine import PATH, OutputHouse, open_output_house
from tests.support.graphs import picture, slow
from tests.support.sidecar import WORKFLOW, Answer, Sidecar, open_sidecar


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[OutputHouse]:
    async with open_output_house(tmp_path) as house:
        yield house


@pytest.fixture
async def drawn(tmp_path: Path) -> AsyncIterator[tuple[Sidecar, str]]:
    """A picture of 640 by 320 that the embedded engine made, and its path."""
    async with open_sidecar(tmp_path) as v1:
        graph = picture("t/wide")
        graph["1"]["inputs"].update(width=640, height=320)
        [output] = (await v1.ended(await v1.submit(graph)))["outputs"]
        yield v1, output["url"]


def size_of(answer: Answer) -> tuple[int, int]:
    assert answer.status == 200, answer.data
    return Image.open(io.BytesIO(answer.data)).size


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("preview=100x100", (100, 50)),
        ("preview=100x20", (40, 20)),
        ("preview=64", (64, 32)),
        ("preview=4096x4096", (640, 320)),
    ],
)
async def test_a_preview_fits_into_the_box_and_is_never_larger(
    drawn: tuple[Sidecar, str], query: str, size: tuple[int, int]
) -> None:
    v1, path = drawn
    answer = await v1("GET", f"{path}?{query}")
    assert size_of(answer) == size
    again = await v1("GET", f"{path}?{query}", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304
    assert answer.headers["ETag"] != (await v1("GET", path)).headers["ETag"]


@pytest.mark.parametrize(
    "asked", ["0x0", "-1x5", "5x", "x5", "axb", "99999x99999", "5x5x5", "1e3", "\uff14x\uff14"]
)
async def test_a_preview_of_a_size_that_is_none_is_400(drawn: tuple[Sidecar, str], asked: str) -> None:
    v1, path = drawn
    assert_problem(await v1("GET", path, params={"preview": asked}), 400, "Bad Request")


async def test_a_preview_of_what_is_no_picture_is_422(house: OutputHouse) -> None:
    output = await house.add("x.png", b"no picture at all")
    assert_problem(await house.v1("GET", f"{PATH}/{output.id}?preview=64"), 422, "Unprocessable Content")


async def test_the_preview_of_a_workflow_is_there_while_it_runs(tmp_path: Path) -> None:
    async with open_sidecar(tmp_path) as sidecar:
        job = await sidecar.submit(slow(steps=10_000, step_ms=20))
        path = f"{WORKFLOW}/{job}/preview"
        async with asyncio.timeout(30):
            while (answer := await sidecar("GET", path)).status == 404:
                assert answer.body["code"] == "not_found"
        assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
        assert answer.headers["ETag"] == etag(answer.data)
        with Image.open(io.BytesIO(answer.data)) as image:
            assert max(image.size) == 512
        await sidecar("DELETE", f"{WORKFLOW}/{job}")
        await sidecar.ended(job)
        assert (await sidecar("GET", path)).status == 404
        unknown = await sidecar("GET", f"{WORKFLOW}/nope/preview")
        assert (unknown.status, unknown.body["code"]) == (404, "workflow_not_found")
