"""Commands that serve, and the one that checks what there is to serve."""

from pathlib import Path
from typing import Any

import click

from comfy_mcp.cli import options
from comfy_mcp.cli.options import Command, execute


@click.command(cls=Command, example="claude mcp add comfyui -- comfy-bridge mcp")
@click.option(
    "--protocol",
    type=click.Choice(["auto", "legacy"]),
    default="auto",
    show_default=True,
    help="legacy: refuse `server/discover` (MCP 2026-07-28), for clients that hang after it.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Serve Prometheus metrics on this port; 0 = any free port.",
)
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address for --metrics-port.")
@click.pass_obj
def mcp(given: dict[str, Any], /, **how: Any) -> None:
    """Serve MCP on stdin and stdout. The agent starts this command."""
    from comfy_mcp.cli import servers

    execute(given, False, lambda s, out: servers.mcp(s, out, **how), own_logs=True)


@click.command(
    cls=Command,
    example="comfy-bridge serve --port 9090",
    short_help="Serve REST, streams, a page and MCP over HTTP on one port.",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on; overrides MANAGEMENT_API_HOST.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; overrides MANAGEMENT_API_PORT (default 9090). 0 = any free port.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Listen on any address without a key. Everybody who reaches it has every right.",
)
@click.option(
    "--also-stdio", is_flag=True, help="Also serve MCP on stdin and stdout, and exit when they close."
)
@options.as_json
@click.pass_obj
def serve(given: dict[str, Any], /, as_json: bool, **how: Any) -> None:
    """Serve REST, WebSocket, SSE, metrics, docs and MCP over HTTP on one port.

    The command prints its URL when it is ready. Without an API key it listens on loopback only.
    """
    from comfy_mcp.cli import servers

    execute(given, as_json, lambda s, out: servers.serve(s, out, **how), own_logs=True)


@click.command(
    cls=Command,
    example="comfy-bridge engine --port 8188",
    short_help="Run the embedded engine, for trials without ComfyUI.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8188,
    show_default=True,
    help="Port to listen on; 0 = any free port.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--base-directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for input, output, temp and models. Default: inside the state folder.",
)
@options.object_info
@options.as_json
@click.pass_obj
def engine(given: dict[str, Any], /, as_json: bool, **where: Any) -> None:
    """Run the embedded engine: it speaks ComfyUI's protocol without models or a GPU, for trials and CI.

    The command prints its URL when it is ready. It is not ComfyUI and checks no key: keep it on loopback.
    """
    from comfy_mcp.cli import servers

    execute(given, as_json, lambda s, out: servers.engine(s, out, **where), own_logs=True)


@click.command(
    cls=Command,
    example="COMFYUI_URL=http://gpu-box:8188 comfy-bridge doctor",
    short_help="Check settings, engines, GPUs and store; show what to fix.",
)
@click.option(
    "--write",
    type=click.Choice(options.CLIENTS),
    help="Add the bridge to the configuration of this MCP client: the change is shown, and written on a yes.",
)
@options.as_json
@click.pass_obj
def doctor(given: dict[str, Any], /, as_json: bool, write: str | None) -> None:
    """Check the configuration, engines, versions, GPUs and store, and show what to fix.

    The exit code is 5 if an engine does not answer, 6 if the store does not work.
    """
    if write is not None:
        from comfy_mcp.cli.connecting import connect

        execute(given, as_json, lambda settings, out: connect(settings, out, client=write))
        return
    from comfy_mcp.cli.doctor import doctor as look
    from comfy_mcp.cli.session import Options

    by_option = Options(**given).overrides()
    execute(given, as_json, lambda settings, out: look(settings, out, by_option=by_option))


COMMANDS = (mcp, serve, engine, doctor)
