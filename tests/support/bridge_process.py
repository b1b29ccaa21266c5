"""A bridge in a process of its own: `python -m tests.support.bridge_process`, configured by the environment.

Prints `ready` and drives its engine until stdin ends. Tests kill it.
"""

import asyncio
import sys

from comfy_mcp.logs import configure
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import load_settings


async def main() -> None:
    settings = load_settings()
    configure(settings)
    async with open_runtime(settings):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
