"""The handshake must not wait for libraries that it does not need."""

import subprocess
import sys

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
