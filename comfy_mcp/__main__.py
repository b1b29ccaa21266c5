"""`python -m comfy_mcp` is `comfy-bridge`."""

from comfy_mcp.cli import main

if __name__ == "__main__":
    main()
