"""How the two servers are started."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

NOOP = (sys.executable, "-m", "bench.noop_server")
BRIDGE = (sys.executable, "-m", "comfy_mcp", "mcp")
REPOSITORY = Path(__file__).resolve().parents[1]


def environment(url: str, folder: Path) -> Mapping[str, str]:
    """Our own settings and nobody else's. Bytecode is kept, as in an installed package."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("COMFY")}
    clean.pop("PYTHONDONTWRITEBYTECODE", None)
    return clean | {
        "PYTHONPATH": str(REPOSITORY),
        "COMFYUI_URL": url,
        "COMFY_BRIDGE_STATE_DIR": str(folder),
        "COMFY_BRIDGE_LOG_LEVEL": "warning",
    }
