"""What the lock file has in an older version than the index: `make outdated`.

pip asks whatever index it is configured with. The exit code is 0: a newer version is news, not an error.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def locked(text: str) -> dict[str, str]:
    """Normalized name → version."""
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in _PINNED.findall(text)}


def newer() -> dict[str, str]:
    """Of what is installed beside this Python: normalized name → the newest version that the index has."""
    command = [sys.executable, "-m", "pip", "list", "--outdated", "--format", "json"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {re.sub(r"[-_.]+", "-", each["name"]).lower(): each["latest_version"] for each in json.loads(said)}


def lines(pinned: dict[str, str], latest: dict[str, str]) -> list[str]:
    """`name locked → newest` for what differs."""
    return [
        f"{name} {version} → {latest[name]}"
        for name, version in sorted(pinned.items())
        if latest.get(name, version) != version
    ]


def main() -> None:
    pinned = locked((ROOT / "requirements-dev.lock").read_text(encoding="utf-8"))
    found = lines(pinned, newer())
    print("\n".join(found) if found else "Nothing is outdated.")


if __name__ == "__main__":
    main()
