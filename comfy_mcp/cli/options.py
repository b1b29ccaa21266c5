"""Options that several commands share, the class whose help ends with an example, and what runs a command."""

import math
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click

from comfy_mcp.domain.ids import AUTO, CLOUDS, LOCAL
from comfy_mcp.operations.dates import ms_of

F = TypeVar("F", bound=Callable[..., Any])

PRIORITIES = ("low", "normal", "high")
STATUSES = ("queued", "running", "completed", "failed", "cancelled", "ended")
FAILURE_KINDS = (
    "validation",
    "node_error",
    "oom",
    "missing_model",
    "missing_input",
    "engine_lost",
    "engine_bad_answer",
    "cancelled_externally",
    "timeout",
    "internal",
    "parent_failed",
)
OUTPUT_KINDS = ("image", "video", "audio", "text", "latent", "3d", "file")
MAKES = ("image", "video", "audio", "3d", "text")
RIGHTS = ("read", "submit", "cancel", "high", "metrics", "admin", "spend")
WEBHOOK_EVENTS = (
    "workflow.queued",
    "workflow.started",
    "workflow.requeued",
    "workflow.completed",
    "workflow.failed",
    "workflow.cancelled",
)
DELIVERY_STATES = ("pending", "delivered", "dead")
"""Written out here so that --help loads nothing; a test compares them with the operations' models."""

CLIENTS = ("claude-code", "claude-desktop", "cursor", "vscode")
"""MCP clients whose configuration `doctor --write` knows (cli/connecting.py)."""


class Seconds(click.FloatRange):
    """A range that has no place for "nan"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return seconds


class When(click.IntRange):
    """Epoch milliseconds, or a date."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).isdigit():
            return super().convert(value, param, ctx)
        try:
            return ms_of(str(value).strip())
        except ValueError:
            self.fail(f"{value!r} is no date such as 2026-11-30, and no epoch milliseconds.", param, ctx)


as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
save_to = click.option(
    "-o",
    "--save-to",
    "save_to",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Save the outputs in this folder, or as this file (art/fox.png), and print their paths.",
)


def joined(_context: click.Context, _option: click.Parameter, ids: tuple[str, ...]) -> str:
    """Several ids as the operations take them."""
    return ",".join(ids)


def completed(kind: str) -> Any:
    """For `shell_complete`: what `cli/completing.py` knows of that kind. It is imported when a shell asks."""

    def complete(context: click.Context, _parameter: click.Parameter, begun: str) -> Any:
        import_lean("structlog")
        from comfy_mcp.cli import completing

        return getattr(completing, kind)(context, begun)

    return complete


IDS = completed("ids")
file = click.argument("file", metavar="FILE|NAME", shell_complete=completed("workflows"))
workflow_id = click.argument("workflow_id", metavar="ID", shell_complete=IDS)
workflow_ids = click.argument(
    "workflow_id", metavar="ID…", nargs=-1, required=True, callback=joined, shell_complete=IDS
)
files = click.argument("files", metavar="FILE…", nargs=-1, required=True)
object_info = click.option(
    "--object-info",
    metavar="FILE",
    help="Use this saved answer of GET /object_info instead of the engine's own.",
)
node_replacements = click.option(
    "--node-replacements",
    metavar="FILE",
    help="With --object-info: the same engine's saved answer of GET /node_replacements.",
)
timeout = click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="Stop waiting after this time (exit code 9); the workflow continues. Default: no limit.",
)
cancel_on_interrupt = click.option(
    "--cancel-on-interrupt", is_flag=True, help="Cancel the workflow on Ctrl-C instead of leaving it running."
)
inputs = click.option(
    "-i",
    "--input",
    "inputs",
    metavar="NAME=VALUE",
    multiple=True,
    shell_complete=completed("inputs"),
    help='Set an input of the workflow, such as prompt="a fox" or 6.text=…; repeatable. `comfy-bridge '
    "describe` lists them.",
)
name = click.option("--name", metavar="TEXT", help="Name of the workflow in lists. Default: the file's.")
quiet = click.option("-q", "--quiet", is_flag=True, help="Do not show progress.")
priority = click.option(
    "--priority",
    type=click.Choice(PRIORITIES),
    default="normal",
    show_default=True,
    help="Priority in the queue.",
)
variations = click.option(
    "--variations",
    type=click.IntRange(min=1),
    metavar="N",
    help="Submit N workflows with other seeds, as one batch.",
)
matrix = click.option(
    "--matrix",
    "matrix",
    metavar="NAME=V1,V2",
    multiple=True,
    help="Submit one workflow for each value of the input, as one batch; repeatable, for all combinations.",
)
engine = click.option(
    "--on",
    "engine",
    metavar="ENGINE",
    help="Run it on this engine only.",
    shell_complete=completed("engines"),
)
labels = click.option(
    "--label",
    "labels",
    metavar="LABEL",
    multiple=True,
    help="Run it on an engine that has this label; repeatable.",
)
not_on = click.option(
    "--not-on",
    "not_on",
    metavar="ENGINE",
    multiple=True,
    help="Do not run it on this engine; repeatable.",
    shell_complete=completed("engines"),
)
gpu = click.option(
    "--gpu",
    type=click.Choice([LOCAL, *sorted(CLOUDS), AUTO]),
    default=LOCAL,
    show_default=True,
    help="Where it runs: on your engines, at a service, or at a service while yours are busy.",
)
webhook = click.option(
    "--webhook",
    metavar="URL",
    help="Send the end of the workflow there, signed, instead of to your webhook (`comfy-bridge webhooks`).",
)
submit_events = click.option(
    "--webhook-event",
    "webhook_events",
    type=click.Choice(WEBHOOK_EVENTS),
    multiple=True,
    help="Send these to --webhook; repeatable. Default: completed, failed and cancelled.",
)
webhook_events = click.option(
    "--event",
    "events",
    type=click.Choice(WEBHOOK_EVENTS),
    multiple=True,
    help="Only these; repeatable. Default: completed, failed and cancelled.",
)
webhook_client = click.option("--client", metavar="NAME", help="The webhook of this client instead of yours.")
queue_timeout = click.option(
    "--queue-timeout",
    "queue_timeout_s",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="Fail the workflow if it has not started within this time.",
)
run_timeout = click.option(
    "--run-timeout",
    "run_timeout_s",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop the workflow and fail it if it runs longer than this.",
)
limit = click.option(
    "--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="Maximum number of entries."
)
cursor = click.option(
    "--cursor", metavar="CURSOR", help="Continue after the last page: the cursor that it printed."
)
since = click.option(
    "--since",
    type=When(min=0),
    metavar="WHEN",
    help="Only entries newer than this: a date such as 2026-11-30 (UTC), or epoch milliseconds.",
)


EXTRAS = {"structlog": {"rich", "greenlet"}, "mcp": {"watchfiles"}}
"""What these load wherever it is installed, and nothing of ours needs: `rich` takes 4 MB and a tenth of a
second of every start, `greenlet` 1 MB, `watchfiles` 0.8 until folders are watched."""
if sys.platform != "win32":
    EXTRAS["structlog"].add("colorama")


def import_lean(name: str) -> None:
    """Import a module without its EXTRAS."""
    if name in sys.modules:
        return
    absent = EXTRAS[name] - sys.modules.keys()
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # the import raises ImportError then
    try:
        import_module(name)
    finally:
        for each in absent:
            del sys.modules[each]


class Command(click.Command):
    """A click command whose help ends with an example. What it needs is imported when it runs."""

    def invoke(self, context: click.Context) -> Any:
        try:
            import_lean("structlog")
            return super().invoke(context)
        except KeyboardInterrupt:  # while it is imported: click would exit with 1, as after a bug
            from comfy_mcp.cli.exits import ExitCode

            click.echo("interrupted", err=True)
            sys.exit(ExitCode.INTERRUPTED)

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        if self.example:
            with formatter.section("Example"):
                formatter.write("".join(f"  {line}\n" for line in self.example.splitlines()))


def asked(command: F) -> F:
    """What `run` and `submit` ask beside the workflow, in the order of --help."""
    for option in reversed(
        (
            *(inputs, variations, matrix, name, priority, engine, labels, not_on, gpu),
            *(queue_timeout, run_timeout, webhook, submit_events),
        )
    ):
        command = option(command)
    return command


def execute(given: dict[str, Any], as_json: bool, command: Any, *, own_logs: bool = False) -> None:
    """Runs what a command does. `given`: the global options."""
    from comfy_mcp.cli.output import Output
    from comfy_mcp.cli.session import Options, execute

    execute(Options(**given), Output(as_json=as_json), command, own_logs=own_logs)
