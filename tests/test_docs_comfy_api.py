"""docs/comfy-api.md has every route of Comfy API v2, and its example runs."""

import asyncio
import json
import re
import sys
from pathlib import Path

from aiohttp import web

from http_sidecar.app_state import IDENTIFIERS
from http_sidecar.comfy_api import endpoints
from tests.support.comfy_sdks import png, showing
from tests.support.sidecar import open_sidecar

DOCUMENT = (Path(__file__).parents[1] / "docs" / "comfy-api.md").read_text(encoding="utf-8")


def test_every_route_is_in_the_table_and_nothing_else() -> None:
    app = web.Application()
    app[IDENTIFIERS] = []
    endpoints.setup(app)
    routed = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }
    getting = {path for method, path in routed if method == "GET"}
    known = {(method, path) for method, path in routed if method != "HEAD" or path not in getting}
    assert set(re.findall(r"^\| `([A-Z]+) (/api/v2\S*)` \|", DOCUMENT, re.MULTILINE)) == known


async def test_the_example_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    folder = tmp_path / "work"
    folder.mkdir()
    graph = showing("example.png")
    graph["10"] = graph.pop("1")
    graph["2"] = {"class_type": "SaveImage", "inputs": {"images": ["10", 0], "filename_prefix": "done"}}
    (folder / "workflow_api.json").write_text(json.dumps(graph))
    (folder / "photo.png").write_bytes(png())
    async with open_sidecar(tmp_path) as sidecar:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            example,
            cwd=folder,
            env={"COMFY_BASE_URL": sidecar.url},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert (folder / "done_00001_.png").read_bytes().startswith(b"\x89PNG")
