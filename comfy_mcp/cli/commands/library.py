"""Commands that find workflows, node classes, model files and outputs, and that check and convert files."""

from pathlib import Path
from typing import Any

import click

from comfy_mcp.cli import options
from comfy_mcp.cli.options import Command, execute


@click.command(
    cls=Command, example="comfy-bridge find upscale a photo", short_help="Find workflows by what they do."
)
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
    execute(given, as_json, lambda s, out: library.find(s, out, arguments=arguments))


@click.command(
    cls=Command,
    example="comfy-bridge describe text-to-image",
    short_help="Show the inputs of a workflow that -i of `run` sets.",
)
@click.argument("name", shell_complete=options.completed("workflows"))
@options.as_json
@click.pass_obj
def describe(given: dict[str, Any], /, name: str, as_json: bool) -> None:
    """Show the inputs of a workflow that -i of `run` sets: types, ranges, choices, values."""
    from comfy_mcp.cli import library

    execute(given, as_json, lambda s, out: library.describe(s, out, arguments={"name": name}))


@click.command(cls=Command, example="comfy-bridge nodes upscale --produces IMAGE")
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
    execute(given, as_json, lambda s, out: library.nodes(s, out, arguments=arguments))


@click.command(
    cls=Command,
    example="comfy-bridge check workflows/*.json --object-info object_info.json",
    short_help="Say whether the engine would run each FILE. Nothing is queued.",
)
@options.files
@options.object_info
@options.node_replacements
@options.as_json
@click.pass_obj
def check(given: dict[str, Any], /, as_json: bool, **what: Any) -> None:
    """Say of each FILE whether the engine would run it, and what would be lost. Nothing is queued.

    FILE is JSON in API or UI format, or a picture, video or sound that ComfyUI made; - is stdin.
    """
    from comfy_mcp.cli import files

    execute(given, as_json, lambda s, out: files.check(s, out, **what))


@click.command(
    cls=Command,
    example="comfy-bridge convert saved.json > api.json",
    short_help="Print each FILE in API format, as ComfyUI's editor would.",
)
@options.files
@options.object_info
@options.node_replacements
@click.option(
    "-o",
    "--save-to",
    "save_to",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write DIR/NAME.json for each file, and print the paths. Another file of that name stays.",
)
@options.as_json
@click.pass_obj
def convert(given: dict[str, Any], /, as_json: bool, **what: Any) -> None:
    """Print each FILE in API format, as ComfyUI's editor would send it.

    FILE is JSON in API or UI format, or a picture, video or sound that ComfyUI made; - is stdin. A warning
    names each value that the editor would send in another way. A file that can't be converted is named on
    stderr, and the others are converted all the same.
    """
    from comfy_mcp.cli import files

    execute(given, as_json, lambda s, out: files.convert(s, out, **what))


@click.command(cls=Command, example="comfy-bridge workflows --status failed --limit 10")
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

    execute(given, as_json, lambda s, out: library.workflows(s, out, arguments=arguments))


@click.command(cls=Command, example="comfy-bridge queue --json")
@options.as_json
@click.pass_obj
def queue(given: dict[str, Any], /, as_json: bool) -> None:
    """Show the running and queued workflows, in run order."""
    from comfy_mcp.cli import library

    execute(given, as_json, library.queue)


@click.command(cls=Command, example="comfy-bridge models --type checkpoints --search sdxl")
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

    execute(given, as_json, lambda s, out: library.models(s, out, arguments=arguments))


@click.command(
    cls=Command,
    example='comfy-bridge outputs --workflow "$id" -o pictures',
    short_help="List the outputs of workflows, newest first; save them.",
)
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

    execute(given, as_json, lambda s, out: library.outputs(s, out, arguments=arguments, save_to=save_to))


COMMANDS = (find, describe, nodes, check, convert, workflows, queue, models, outputs)
