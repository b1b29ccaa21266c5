"""The wheels that requirements.lock names, in a folder: an index for tests that ask no index.

`pip download` fetches them once per lock file into `$COMFY_BRIDGE_CACHE/wheels-…` (default
`~/.cache/comfy-mcp-bridge/…`) from the index that this machine has configured, by their hashes. A download
that fails fails the run.
"""

import fcntl
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.real_comfyui_install import cache_root

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
FETCH_LIMIT_S = 300.0


def wheelhouse() -> Path:
    """One process at a time."""
    root = cache_root()
    key = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    home = root / f"wheels-{key}"
    root.mkdir(parents=True, exist_ok=True)
    with (root / "wheels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            _fetch(home)
    return home


def _fetch(home: Path) -> None:
    """Beside its place first: a download that was interrupted is never used."""
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="wheels-") as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--no-deps"]
        done = subprocess.run(
            [*pip, "--require-hashes", "--requirement", str(LOCK), "--dest", folder],
            capture_output=True,
            text=True,
            timeout=FETCH_LIMIT_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"pip download failed:\n{done.stdout}{done.stderr}")
        Path(folder).rename(home)
        Path(folder).mkdir()  # for TemporaryDirectory to remove
