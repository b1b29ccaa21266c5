"""The stdio server as a process of its own: `python tests/support/mcp_stdio.py [legacy] [noisy]`."""

import asyncio
import sys


async def main(modes: set[str]) -> None:
    from comfy_mcp.cli.servers import open_in_background
    from comfy_mcp.logs import configure
    from comfy_mcp.server.stdio import serve_stdio
    from comfy_mcp.settings import load_settings

    settings = load_settings()
    configure(settings)
    if "noisy" in modes:
        asyncio.get_running_loop().call_later(0, make_noise)
    await serve_stdio(
        settings, open_bridge=open_in_background, protocol="legacy" if "legacy" in modes else "auto"
    )


def make_noise() -> None:
    """What libraries do: print, write to descriptor 1, and start children that print."""
    import os
    import subprocess

    print("a library prints")
    os.write(1, b"C code writes\n")
    subprocess.run(["echo", "a child prints"], check=True)


if __name__ == "__main__":
    asyncio.run(main(set(sys.argv[1:])))
