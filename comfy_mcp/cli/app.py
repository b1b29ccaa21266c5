"""The commands of `comfy-bridge` and their options. Their code is imported on use, so --help is fast."""

from pathlib import Path
from typing import Any, TextIO

import click

from comfy_mcp import __version__
from comfy_mcp.cli import options
from comfy_mcp.cli.options import Command


class _Group(click.Group):
    """Ends its help with the exit codes."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from comfy_mcp.cli.exits import MEANINGS

        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), meaning) for code, meaning in MEANINGS.items()])
        with formatter.section("Example"):
            formatter.write("  comfy-bridge run workflow.json -o pictures\n")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="comfy-bridge")
@click.option("--engine", metavar="URL", help="URL of ComfyUI; overrides COMFYUI_URL.")
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the store; overrides COMFY_BRIDGE_STATE_DIR.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Lowest level logged on stderr. Default: warning; mcp, serve and engine use COMFY_BRIDGE_LOG_LEVEL.",
)
@click.pass_context
def cli(context: click.Context, /, **given: Any) -> None:
    """Run ComfyUI workflows through a durable queue, from a shell or as an MCP server.

    Set COMFYUI_URL to the address of ComfyUI. `comfy-bridge doctor` shows the configuration and what to fix.
    """
    context.obj = given


def main() -> None:
    """The entry point of the package."""
    cli(prog_name="comfy-bridge")


@cli.command(cls=Command, example="claude mcp add comfyui -- comfy-bridge mcp")
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

    _execute(given, False, lambda settings, _: servers.mcp(settings, **how), own_logs=True)


@cli.command(cls=Command, example='comfy-bridge run text-to-image -i prompt="a fox" --save-to art')
@click.argument("file", metavar="FILE|NAME")
@options.asked
@options.save_to
@options.timeout
@options.cancel_on_interrupt
@options.quiet
@options.as_json
@click.pass_obj
def run(
    given: dict[str, Any],
    /,
    file: str,
    as_json: bool,
    save_to: Path | None,
    timeout_s: float | None,
    cancel_on_interrupt: bool,
    quiet: bool,
    **asked: Any,
) -> None:
    """Submit the workflow in FILE, or with this NAME, and wait for its end.

    FILE is JSON in API or UI format, or a picture, video or sound that ComfyUI made; - is stdin. NAME is one
    that `comfy-bridge find` lists, or job:ID for the workflow of an earlier job.

    The command runs the queue itself unless another process does. Ctrl-C leaves the workflow running.
    """
    from comfy_mcp.cli import jobs

    how = jobs.Following(
        save_to=save_to, timeout_s=timeout_s, cancel_on_interrupt=cancel_on_interrupt, quiet=quiet
    )
    _execute(given, as_json, lambda s, out: jobs.run(s, out, file=file, asked=asked, how=how))


@cli.command(cls=Command, example="id=$(comfy-bridge submit workflow.json)")
@click.argument("file", metavar="FILE|NAME")
@options.asked
@options.as_json
@click.pass_obj
def submit(given: dict[str, Any], /, file: str, as_json: bool, **asked: Any) -> None:
    """Queue a workflow (as for `run`), print its id and return at once."""
    from comfy_mcp.cli import jobs

    _execute(given, as_json, lambda s, out: jobs.submit(s, out, file=file, asked=asked))


@cli.command(cls=Command, example="comfy-bridge find upscale a photo")
@click.argument("query", nargs=-1)
@click.option("--kind", type=click.Choice(options.MAKES), help="Only workflows that make this.")
@options.limit
@options.as_json
@click.pass_obj
def find(given: dict[str, Any], /, query: tuple[str, ...], as_json: bool, **arguments: Any) -> None:
    """Find workflows by what they do: those that the engine can run come first.

    Searched are the workflows that were saved in ComfyUI, the folder COMFY_BRIDGE_WORKFLOWS, ComfyUI's
    templates, starters of the bridge and recent jobs. Without QUERY: what there is.
    """
    from comfy_mcp.cli import library

    arguments["query"] = " ".join(query) or None
    _execute(given, as_json, lambda s, out: library.find(s, out, arguments=arguments))


@cli.command(cls=Command, example="comfy-bridge describe text-to-image")
@click.argument("name")
@options.as_json
@click.pass_obj
def describe(given: dict[str, Any], /, name: str, as_json: bool) -> None:
    """Show the inputs of a workflow that -i of `run` sets: types, ranges, choices, values."""
    from comfy_mcp.cli import library

    _execute(given, as_json, lambda s, out: library.describe(s, out, arguments={"name": name}))


@cli.command(cls=Command, example="comfy-bridge nodes upscale --produces IMAGE")
@click.argument("query", nargs=-1)
@click.option("--name", metavar="CLASS[.INPUT]", help="One class in full, or all choices of an input.")
@click.option("--produces", metavar="TYPE", help="Only classes with an output of this type.")
@click.option("--accepts", metavar="TYPE", help="Only classes with an input of this type.")
@options.limit
@options.cursor
@options.as_json
@click.pass_obj
def nodes(given: dict[str, Any], /, query: tuple[str, ...], as_json: bool, **arguments: Any) -> None:
    """Find node classes of the engine."""
    from comfy_mcp.cli import library

    arguments["query"] = " ".join(query) or None
    _execute(given, as_json, lambda s, out: library.nodes(s, out, arguments=arguments))


@cli.command(cls=Command, example="comfy-bridge check workflows/*.json --object-info object_info.json")
@options.files
@options.object_info
@options.as_json
@click.pass_obj
def check(given: dict[str, Any], /, as_json: bool, **what: Any) -> None:
    """Say of each FILE whether the engine would run it, and what would be lost. Nothing is queued."""
    from comfy_mcp.cli import files

    _execute(given, as_json, lambda s, out: files.check(s, out, **what))


@cli.command(cls=Command, example="comfy-bridge convert saved.json > api.json")
@options.files
@options.object_info
@click.option(
    "-o",
    "--save-to",
    "save_to",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write DIR/NAME.json for each file, and print the paths.",
)
@options.as_json
@click.pass_obj
def convert(given: dict[str, Any], /, as_json: bool, **what: Any) -> None:
    """Print each FILE in API format, as ComfyUI's editor would send it.

    A warning names each value that the editor would send in another way. A file that can't be converted is
    named on stderr, and the others are converted all the same.
    """
    from comfy_mcp.cli import files

    _execute(given, as_json, lambda s, out: files.convert(s, out, **what))


@cli.command(cls=Command, example="comfy-bridge status 0c5b6f0e-6d1c-4a39-9f53-7f4a4c1f2a10")
@options.workflow_ids
@click.option("--attempts", is_flag=True, help="Also show each attempt: its engine and its result.")
@options.as_json
@click.pass_obj
def status(given: dict[str, Any], /, as_json: bool, **arguments: Any) -> None:
    """Show the state, progress, outputs or error of a workflow, or of several together."""
    from comfy_mcp.cli import jobs

    _execute(given, as_json, lambda s, out: jobs.status(s, out, arguments=arguments))


@cli.command(cls=Command, example='comfy-bridge graph "$id" > workflow.json')
@click.argument("workflow_id", metavar="ID")
@click.option("--api", is_flag=True, help="Print the graph in API format, as the engine gets it.")
@options.as_json
@click.pass_obj
def graph(given: dict[str, Any], /, workflow_id: str, api: bool, as_json: bool) -> None:
    """Print the file that was submitted as this workflow."""
    from comfy_mcp.cli import jobs

    _execute(given, as_json, lambda s, out: jobs.graph(s, out, workflow_id=workflow_id, api=api))


@cli.command(cls=Command, example='comfy-bridge wait "$id" --timeout 600 -o pictures')
@options.workflow_ids
@options.save_to
@options.timeout
@options.cancel_on_interrupt
@options.quiet
@options.as_json
@click.pass_obj
def wait(given: dict[str, Any], /, workflow_id: str, as_json: bool, **how: Any) -> None:
    """Wait for the end of a workflow, or of several, and run the queue unless another process does."""
    from comfy_mcp.cli import jobs

    following = jobs.Following(**how)
    _execute(given, as_json, lambda s, out: jobs.wait(s, out, workflow_id=workflow_id, how=following))


@cli.command(cls=Command, example='comfy-bridge cancel "$id" --reason "wrong seed"')
@click.argument("workflow_id", metavar="[ID…]", nargs=-1, callback=options.joined)
@click.option("--mine", is_flag=True, help="Instead of IDs: all of yours that have not ended.")
@click.option("--reason", metavar="TEXT", help="Reason, stored with the workflow.")
@options.as_json
@click.pass_obj
def cancel(given: dict[str, Any], /, workflow_id: str, mine: bool, reason: str | None, as_json: bool) -> None:
    """Cancel queued or running workflows and show their state."""
    from comfy_mcp.cli import jobs

    if mine == bool(workflow_id):
        raise click.UsageError("Give the IDs of workflows, or --mine.")
    workflow_id = workflow_id or "mine"
    _execute(given, as_json, lambda s, out: jobs.cancel(s, out, workflow_id=workflow_id, reason=reason))


@cli.command(cls=Command, example='id=$(comfy-bridge retry "$id")')
@click.argument("workflow_id", metavar="ID")
@options.as_json
@click.pass_obj
def retry(given: dict[str, Any], /, workflow_id: str, as_json: bool) -> None:
    """Submit a failed or cancelled workflow again, print the new id and return at once."""
    from comfy_mcp.cli import jobs

    _execute(given, as_json, lambda s, out: jobs.retry(s, out, workflow_id=workflow_id))


@cli.command(cls=Command, example="comfy-bridge workflows --status failed --limit 10")
@click.option(
    "--status",
    type=click.Choice(options.STATUSES),
    help="Only workflows with this status; ended = completed, failed or cancelled.",
)
@click.option(
    "--failure-kind",
    type=click.Choice(options.FAILURE_KINDS),
    help="Only workflows that failed for this reason.",
)
@click.option(
    "--not-retried", "retried", flag_value=False, type=bool, help="Only workflows that have not been retried."
)
@click.option("--client", metavar="NAME", help="Only workflows of this client.")
@options.since
@options.limit
@options.cursor
@options.as_json
@click.pass_obj
def workflows(given: dict[str, Any], /, as_json: bool, **arguments: Any) -> None:
    """List submitted workflows, newest first."""
    from comfy_mcp.cli import library

    _execute(given, as_json, lambda s, out: library.workflows(s, out, arguments=arguments))


@cli.command(cls=Command, example="comfy-bridge queue --json")
@options.as_json
@click.pass_obj
def queue(given: dict[str, Any], /, as_json: bool) -> None:
    """Show the running and queued workflows, in run order."""
    from comfy_mcp.cli import library

    _execute(given, as_json, library.queue)


@cli.command(cls=Command, example="comfy-bridge models --type checkpoints --search sdxl")
@click.option(
    "--type", metavar="TYPE", help="Only this type: checkpoints, loras, vae, controlnet, upscale, …"
)
@click.option("--search", metavar="TEXT", help="Only names that contain this text.")
@options.limit
@options.cursor
@options.as_json
@click.pass_obj
def models(given: dict[str, Any], /, as_json: bool, **arguments: Any) -> None:
    """List model files with their sizes and hashes."""
    from comfy_mcp.cli import library

    _execute(given, as_json, lambda s, out: library.models(s, out, arguments=arguments))


@cli.command(cls=Command, example='comfy-bridge outputs --workflow "$id" -o pictures')
@click.option("--workflow", "workflow_id", metavar="ID", help="Only outputs of this workflow.")
@click.option("--type", type=click.Choice(options.OUTPUT_KINDS), help="Only outputs of this type.")
@options.save_to
@options.since
@options.limit
@options.cursor
@options.as_json
@click.pass_obj
def outputs(given: dict[str, Any], /, save_to: Path | None, as_json: bool, **arguments: Any) -> None:
    """List the outputs of workflows, newest first; -o also saves them."""
    from comfy_mcp.cli import library

    _execute(given, as_json, lambda s, out: library.outputs(s, out, arguments=arguments, save_to=save_to))


@cli.command(cls=Command, example="comfy-bridge serve --port 9090")
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

    _execute(given, as_json, lambda s, out: servers.serve(s, out, **how), own_logs=True)


@cli.group("jobs")
def jobs_() -> None:
    """Repair the queue."""


@jobs_.command(cls=Command, example='comfy-bridge jobs abandon "$id"')
@click.argument("workflow_id", metavar="ID")
@options.as_json
@click.pass_obj
def abandon(given: dict[str, Any], /, workflow_id: str, as_json: bool) -> None:
    """End a workflow at once, without asking the engine, which may still run it.

    For workflows that `comfy-bridge cancel` does not end, for example after the engine was removed.
    """
    from comfy_mcp.cli import jobs

    _execute(given, as_json, lambda s, out: jobs.abandon(s, out, workflow_id=workflow_id))


@cli.group()
def engines() -> None:
    """List the engines, add and remove them, and take one out of use for maintenance."""


@engines.command("list", cls=Command, example="comfy-bridge engines list --json")
@options.as_json
@click.pass_obj
def list_engines(given: dict[str, Any], /, as_json: bool) -> None:
    """List the engines with their state, URL and labels."""
    from comfy_mcp.cli import engines as commands

    _execute(given, as_json, commands.list_)


@engines.command("add", cls=Command, example="comfy-bridge engines add gpu-1 http://gpu-1:8188 --label h100")
@click.argument("engine", metavar="NAME")
@click.argument("url")
@click.option("--label", "labels", multiple=True, help="What submits may ask for; may be repeated.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Header for every request.")
@click.option(
    "--token-file", type=click.File(), help="File with the bearer token for every request (- = stdin)."
)
@options.as_json
@click.pass_obj
def add_engine(
    given: dict[str, Any],
    /,
    as_json: bool,
    engine: str,
    url: str,
    labels: tuple[str, ...],
    headers: tuple[str, ...],
    token_file: TextIO | None,
) -> None:
    """Add an engine to the file that COMFY_BRIDGE_ENGINES_FILE names. It gets workflows within seconds."""
    from comfy_mcp.cli import engines as commands

    arguments = {
        "engine": engine,
        "url": url,
        "labels": labels,
        "headers": commands.headers_of(headers),
        "token": None if token_file is None else token_file.read().strip(),
    }
    _execute(given, as_json, lambda s, out: commands.change(s, out, "add_engine", arguments))


@engines.command("remove", cls=Command, example="comfy-bridge engines remove gpu-1")
@click.argument("engine")
@options.as_json
@click.pass_obj
def remove_engine(given: dict[str, Any], /, as_json: bool, engine: str) -> None:
    """Take ENGINE out of the file of engines. It ends the workflows that it has."""
    from comfy_mcp.cli import engines as commands

    _execute(given, as_json, lambda s, out: commands.change(s, out, "remove_engine", {"engine": engine}))


@engines.command(cls=Command, example="comfy-bridge engines drain gpu-1")
@click.argument("engine")
@options.as_json
@click.pass_obj
def drain(given: dict[str, Any], /, as_json: bool, engine: str) -> None:
    """Give ENGINE no new workflows; it ends those that it has. This outlasts restarts."""
    from comfy_mcp.cli import engines as commands

    _execute(given, as_json, lambda s, out: commands.drain(s, out, engine=engine, drained=True))


@engines.command(cls=Command, example="comfy-bridge engines resume gpu-1")
@click.argument("engine")
@options.as_json
@click.pass_obj
def resume(given: dict[str, Any], /, as_json: bool, engine: str) -> None:
    """Give a drained ENGINE workflows again."""
    from comfy_mcp.cli import engines as commands

    _execute(given, as_json, lambda s, out: commands.drain(s, out, engine=engine, drained=False))


@cli.group()
def keys() -> None:
    """Add, list and revoke the API keys of `serve`."""


@keys.command(cls=Command, example="comfy-bridge keys add dashboard --right read --right admin")
@click.argument("name")
@click.option(
    "--right",
    "rights",
    type=click.Choice(options.RIGHTS),
    multiple=True,
    help="A right of the key; repeatable. Default: read, submit, cancel. admin: every client's workflows; "
    "spend: partner nodes, which cost Comfy credits.",
)
@click.option(
    "--max-queued", type=click.IntRange(min=1), metavar="N", help="Maximum number of its queued workflows."
)
@click.option(
    "--max-queued-bytes",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help="Maximum size of its queued workflows together.",
)
@options.as_json
@click.pass_obj
def add(given: dict[str, Any], /, as_json: bool, **how: Any) -> None:
    """Create a key and print it; it is shown only once. NAME is also the client name of its workflows."""
    from comfy_mcp.cli import keys as commands

    _execute(given, as_json, lambda s, out: commands.add(s, out, **how))


@keys.command("list", cls=Command, example="comfy-bridge keys list --json")
@options.as_json
@click.pass_obj
def list_(given: dict[str, Any], /, as_json: bool) -> None:
    """List the names and rights of all keys, also of revoked ones."""
    from comfy_mcp.cli import keys as commands

    _execute(given, as_json, commands.list_)


@keys.command(cls=Command, example="comfy-bridge keys revoke dashboard")
@click.argument("name")
@options.as_json
@click.pass_obj
def revoke(given: dict[str, Any], /, as_json: bool, name: str) -> None:
    """Revoke a key. A running server refuses it within seconds."""
    from comfy_mcp.cli import keys as commands

    _execute(given, as_json, lambda s, out: commands.revoke(s, out, name=name))


@cli.command(cls=Command, example="comfy-bridge engine --port 8188")
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

    _execute(given, as_json, lambda s, out: servers.engine(s, out, **where), own_logs=True)


@cli.command(cls=Command, example="COMFYUI_URL=http://gpu-box:8188 comfy-bridge doctor")
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

        _execute(given, as_json, lambda settings, out: connect(settings, out, client=write))
        return
    from comfy_mcp.cli.doctor import doctor as look
    from comfy_mcp.cli.session import Options

    by_option = Options(**given).overrides()
    _execute(given, as_json, lambda settings, out: look(settings, out, by_option=by_option))


def _execute(given: dict[str, Any], as_json: bool, command: Any, *, own_logs: bool = False) -> None:
    from comfy_mcp.cli.output import Output
    from comfy_mcp.cli.session import Options, execute

    execute(Options(**given), Output(as_json=as_json), command, own_logs=own_logs)
