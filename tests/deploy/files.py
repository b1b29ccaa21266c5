"""What deploy/ says, read the way its tools read it."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = DEPLOY / "compose.yaml"


@cache
def compose() -> Mapping[str, Any]:
    """With its variables as they are written."""
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return document


@cache
def instructions() -> Sequence[tuple[str, str]]:
    """The Dockerfile's instructions in order, each with the rest of its line; comments gone, lines joined."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, rest) for name, rest in pairs]


def last(name: str) -> str:
    """What the final stage says."""
    return [rest for instruction, rest in instructions() if instruction == name][-1]


def entrypoint() -> list[str]:
    return list(json.loads(last("ENTRYPOINT")))


def image_environment() -> dict[str, str]:
    return dict(re.findall(r'(\w+)="?([^"\s]+)"?', last("ENV")))


def image_health() -> list[str]:
    command: list[str] = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    return command


def copied() -> list[str]:
    """What of the repository the image is built from."""
    return [
        name
        for instruction, rest in instructions()
        if instruction == "COPY" and not rest.startswith("--from=")
        for name in rest.split()[:-1]
    ]
