"""Transcripts of real ComfyUI servers: tests/data/recordings is 0.33.0, its folder v0.3.75 that version.

A line is `{t, ch, dir, …}`: `ch` is `ws:NAME`, `http` or `note`. Of binary frames only the head was kept;
`frame` rebuilds one of the recorded kind with a stub for its image.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "recordings"
ALL = sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.jsonl"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One HTTP request with its answer."""

    method: str
    path: str
    sent: Any
    status: int
    body: Any


def lines(name: str) -> list[dict[str, Any]]:
    """By file name, or by its number, with `v0.3.75/` before it for that version."""
    matches = [path for path in ALL if path == name or path.startswith(f"{name}_")]
    assert len(matches) == 1, f"{name} names {len(matches)} recordings"
    return [json.loads(line) for line in (FOLDER / matches[0]).read_text().splitlines()]


def frames(name: str, channel: str | None = None) -> Iterator[str | bytes]:
    """What a socket received, as it was on the wire."""
    for line in lines(name):
        if line["ch"].startswith("ws:") and channel in {None, line["ch"]} and line.get("dir") == "recv":
            yield json.dumps(line["msg"]) if "msg" in line else frame(line["binary"])


def frame(recorded: dict[str, Any]) -> bytes:
    image = bytes.fromhex(recorded["image_magic"]) + b"..."
    event = int(recorded["event"]).to_bytes(4, "big")
    if recorded["event"] == 4:
        metadata = json.dumps(recorded["metadata"]).encode()
        return event + len(metadata).to_bytes(4, "big") + metadata + image
    return event + int(recorded["image_type"]).to_bytes(4, "big") + image


def exchanges(name: str) -> list[Exchange]:
    found: list[Exchange] = []
    sent: dict[tuple[str, str], Any] = {}
    for line in lines(name):
        if line["ch"] != "http":
            continue
        key = (line["method"], line["path"])
        if line["dir"] == "send":
            sent[key] = line.get("json")
        elif line["dir"] == "recv":
            found.append(
                Exchange(
                    method=key[0],
                    path=key[1],
                    sent=sent.get(key),
                    status=line["status"],
                    body=line.get("body"),
                )
            )
    return found
