"""Comfy's own SDKs, unchanged: what they are given, and the TypeScript one as a process."""

import asyncio
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.npm_packages import NODE, node_modules

SCRIPT = Path(__file__).with_name("comfy_sdk.mjs")


def png(color: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(stream, "PNG")
    return stream.getvalue()


def showing(image: object, prefix: str = "t/shown") -> dict[str, Any]:
    """A graph that saves the image that it loads."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


async def run_typescript(folder: Path, url: str, key: str, *, slow: dict[str, Any]) -> None:
    """@comfyorg/sdk uploads, runs, follows, downloads, and cancels `slow`. Raises AssertionError."""
    folder.mkdir()
    (folder / "node_modules").symlink_to(await asyncio.to_thread(node_modules))
    shutil.copy(SCRIPT, folder)
    (folder / "red.png").write_bytes(png())
    (folder / "slow.json").write_text(json.dumps(slow))
    process = await asyncio.create_subprocess_exec(
        str(NODE),
        SCRIPT.name,
        cwd=folder,
        env={**os.environ, "COMFY_BASE_URL": url, "COMFY_API_KEY": key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert said.decode().splitlines()[-1:] == ["all is well"], said.decode()
