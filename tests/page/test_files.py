"""The graph in a file, as the page reads it: JSON as Python writes it, PNGs with every kind of text chunk."""

import base64
import json
import struct
import zlib
from typing import Any

import pytest
from playwright.async_api import Page

from http_sidecar.pages.status_page import DIGEST
from tests.page.seen import Open
from tests.support.sidecar import Sidecar

pytestmark = pytest.mark.asyncio(loop_scope="package")

GRAPH = {"1": {"class_type": "KSampler", "inputs": {"title": 'NaN "quoted" \\ é 💥', "-Infinity": 1}}}
TEXT = json.dumps(GRAPH)
UTF8 = json.dumps(GRAPH, ensure_ascii=False).encode()
READ = """async ([digest, base64]) => {
  const { graphOf } = await import(`/page/${digest}/graph_file.js`);
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  try {
    return await graphOf(new File([bytes], "f"));
  } catch (error) {
    return `${error.code}: ${error.message}`;
  }
}"""


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG's frame around these chunks (PNG specification, 5.3)."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", bytes(13)), *chunks, (b"IEND", b""))
    )


GOOD = {
    "graph": UTF8,
    "tEXt": png((b"tEXt", b"workflow\0{}"), (b"tEXt", b"prompt\0" + TEXT.encode())),
    "the editor's alone": png((b"tEXt", b"workflow\0" + TEXT.encode())),
    "zTXt": png((b"zTXt", b"prompt\0\0" + zlib.compress(TEXT.encode()))),
    "iTXt": png((b"iTXt", b"prompt\0\0\0en\0prompt\0" + UTF8)),
    "compressed iTXt": png((b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(UTF8))),
}
BAD = {
    "no chunk": (png((b"tEXt", b"Software\0{}")), "contains no workflow"),
    "cut": (png((b"tEXt", b"prompt\0" + TEXT.encode()))[:20], "contains no workflow"),
    "damaged": (png((b"zTXt", b"prompt\0\0not zlib")), "is damaged"),
    "a lying length": (b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR" + bytes(20), "contains no workflow"),
    "empty": (b"", "is not JSON"),
    "text in it": (png((b"tEXt", b"prompt\0steps: 20, sampler: Euler")), "is not JSON"),
    "null": (b"null", "is no workflow"),
}


async def read(page: Page, content: bytes) -> Any:
    return await page.evaluate(READ, [DIGEST, base64.b64encode(content).decode()])


async def test_a_graph_is_found_wherever_comfyui_puts_it(sidecar: Sidecar, visit: Open) -> None:
    page = await visit(sidecar.url)
    assert {name: await read(page, content) for name, content in GOOD.items()} == dict.fromkeys(GOOD, GRAPH)


async def test_numbers_that_only_python_writes_become_null(sidecar: Sidecar, visit: Open) -> None:
    page = await visit(sidecar.url)
    graph = {"1": {"inputs": {"NaN": "NaN, Infinity"}, "is_changed": [float("nan"), float("-inf")]}}
    expected = {"1": {"inputs": {"NaN": "NaN, Infinity"}, "is_changed": [None, None]}}
    assert await read(page, json.dumps(graph).encode()) == expected


async def test_what_has_no_graph_is_said(sidecar: Sidecar, visit: Open) -> None:
    page = await visit(sidecar.url)
    said = {name: str(await read(page, content)) for name, (content, _) in BAD.items()}
    assert {name: text for name, text in said.items() if BAD[name][1] not in text} == {}
    assert all(text.startswith("file: ") for text in said.values())
