"""`python -m comfy_mcp.embedded --port 8188 --base-directory DIR`: one line with the URL, then work."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from comfy_mcp.embedded import EngineConfig, serve


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m comfy_mcp.embedded", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose (default)")
    parser.add_argument(
        "--base-directory", type=Path, required=True, help="input/, output/ and temp/ go here"
    )
    options = parser.parse_args(arguments)
    config = EngineConfig(base_directory=options.base_directory, host=options.host, port=options.port)
    asyncio.run(serve(config, ready=_announce))


def _announce(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
