"""The handshake must not wait for libraries that it does not need, and an idle process must not keep them."""

import subprocess
import sys
from pathlib import Path

HEAVY = (
    "sqlalchemy",
    "alembic",
    "aiohttp",
    "PIL",
    "pynvml",
    "prometheus_client",
    "comfy_mcp.metrics",
    "http_sidecar",
    "comfy_mcp.store",
    "comfy_mcp.runtime",
)


def test_importing_the_server_loads_nothing_of_the_runtime() -> None:
    code = (
        "import sys, comfy_mcp.server, comfy_mcp.server.tools as t; t.tools();"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


UNUSED = (
    *("sqlalchemy", "alembic", "psycopg", "PIL", "blake3", "numpy", "aiohttp.web", "prometheus_client"),
    *("tomllib", "platformdirs"),
    *(
        "http_sidecar",
        "comfy_mcp.embedded",
        "comfy_mcp.store.schema",
        "comfy_mcp.store.postgresql.connection",
    ),
    *("comfy_mcp.places.cloud.place", "comfy_mcp.places.cloud.http"),
    *("comfy_mcp.domain.ui_conversion", "comfy_mcp.domain.saved_values", "comfy_mcp.domain.widgets"),
)
"""What an agent's process needs once somebody asks for it: a picture, an upload, a service, PostgreSQL,
metrics, a workflow in the editor's format."""

IDLE = """
import asyncio, sys
from pathlib import Path
import comfy_mcp.server.stdio, comfy_mcp.server.tools as tools
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings

async def main():
    settings = load_settings(engine_urls=("http://127.0.0.1:9",), state_dir=Path(sys.argv[1]))
    tools.tools()
    async with open_runtime(settings, counted=False) as services, asyncio.timeout(60):
        await services.store.queue(10)
    print([name for name in sys.argv[2:] if name in sys.modules])

asyncio.run(main())
"""


def test_an_idle_process_has_loaded_nothing_that_nobody_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IDLE, str(tmp_path / "state"), *UNUSED],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
