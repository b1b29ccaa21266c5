"""`python -m http_sidecar`: what `comfy-bridge serve` does, configured by the environment alone."""

import asyncio
import sys

from comfy_mcp.domain.errors import BridgeError
from comfy_mcp.logs import configure
from comfy_mcp.settings import load_settings
from http_sidecar.process.serve import serve


def main() -> int:
    """The exit code: 0, or 2 for what the settings or the store make impossible."""
    try:
        settings = load_settings()
        configure(settings)
        asyncio.run(serve(settings))
    except BridgeError as error:
        sys.stderr.write(f"error[{error.code.value}]: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
