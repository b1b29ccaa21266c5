"""The wheels that requirements.lock names, in a folder: an index for tests that ask no index.

`pip download` fetches them once per lock file into `$COMFY_BRIDGE_CACHE/wheels-…` (default
`~/.cache/comfy-mcp-bridge/…`) from the index that this machine has configured, by their hashes. A download
that fails fails the run.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from tests.support.once import made_once

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
FETCH_LIMIT_S = 300.0


def wheelhouse() -> Path:
    key = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    return made_once("wheels", key, _fetch)


def _fetch(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--no-deps"]
    done = subprocess.run(
        [*pip, "--require-hashes", "--requirement", str(LOCK), "--dest", str(folder)],
        capture_output=True,
        text=True,
        timeout=FETCH_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"pip download failed:\n{done.stdout}{done.stderr}")
