"""`python -m comfy_mcp.embedded --port 8188 --base-directory DIR`: one line with the URL, then work."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from comfy_mcp.embedded import EngineConfig, serve
from comfy_mcp.embedded.config import HISTORY_LIMIT


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m comfy_mcp.embedded", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose (default)")
    parser.add_argument(
        "--base-directory", type=Path, required=True, help="input/, output/ and temp/ go here"
    )
    parser.add_argument(
        "--history-limit",
        type=int,
        default=HISTORY_LIMIT,
        help="finished prompts kept, the oldest dropped first (default: %(default)s)",
    )
    parser.add_argument("--execution-log", type=Path, help="append a JSON line per step of each prompt here")
    parser.add_argument(
        "--without", type=_names, default=frozenset(), help="classes to leave out, separated by commas"
    )
    parser.add_argument("--speed", type=float, default=1.0, help="of the demo nodes (default: %(default)s)")
    config = EngineConfig(**vars(parser.parse_args(arguments)))
    asyncio.run(serve(config, ready=_announce))


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split(","))


def _announce(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
