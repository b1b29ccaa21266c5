"""Wheels in a folder: an index for tests that ask no index.

Those that requirements.lock names, and those of the extra `media`; and pipx with what it needs. `pip
download` fetches them once per lock file into the cache (`~/.cache/comfy-mcp-bridge` by default) from the
index that this machine has configured, by their hashes. A download that fails fails the run.
"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

from tests.support.once import made_once

ROOT = Path(__file__).resolve().parents[2]
FETCH_LIMIT_S = 300.0

PIPX = """
argcomplete==3.7.2 --hash=sha256:6029205678bdd9c1c728a155f5f9ecf5812393f969eef58807641a2bc2aa5b19
filelock==4.3.1 --hash=sha256:79e43df8e9fe509cd83a3899a7c186c8077cbbe4d200a1ed3705c2f3bb6bc487
packaging==26.4 --hash=sha256:81383611a09c1bc0b08b76e0fd5829d7c6824c65b27a6aee339da133f4233ea2
pip==26.3 --hash=sha256:f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13
pipx==1.18.4 --hash=sha256:4672195db7e89526cda1e54cbea116164a58bd40e1c03fe12e380de16b5399a4
platformdirs==4.14.8 --hash=sha256:1e34af590de4d978631b751eb2202f2fee4497537a17c1720b12fcf57b331392
userpath==1.9.2 --hash=sha256:2cbf01a23d655a1ff8fc166dfb78da1b641d1ceabf0fe5f970767d380b14e89d
"""
"""No dependency of the project. pipx installs a pip of its own, so that is here too; click is in the lock."""


def wheelhouse() -> Path:
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    development = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")
    media = re.findall(r"^av==.*?(?: \\\n +--hash=\S+)+", development, re.MULTILINE)
    return _fetched("wheels", "\n".join([locked, *media]))


def pipx_wheels() -> Path:
    return _fetched("pipx", PIPX)


def _fetched(name: str, lock: str) -> Path:
    key = hashlib.sha256((lock + sys.version).encode()).hexdigest()[:16]
    return made_once(name, key, lambda folder: _fetch(folder, lock))


def _fetch(folder: Path, lock: str) -> None:
    asked = folder / "asked.txt"
    asked.write_text(lock, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--no-deps"]
    done = subprocess.run(
        [*pip, "--require-hashes", "--requirement", str(asked), "--dest", str(folder)],
        capture_output=True,
        text=True,
        timeout=FETCH_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"pip download failed:\n{done.stdout}{done.stderr}")
