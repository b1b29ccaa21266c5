"""Commands that submit workflows, follow them and end them."""

from pathlib import Path
from typing import Any

import click

from comfy_mcp.cli import options
from comfy_mcp.cli.options import Command, execute


@click.command(
    cls=Command,
    example='comfy-bridge run text-to-image -i prompt="a fox" --save-to art',
    short_help="Submit a workflow and wait for its end.",
)
@options.file
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
    execute(given, as_json, lambda s, out: jobs.run(s, out, file=file, asked=asked, how=how))


@click.command(
    cls=Command,
    example="id=$(comfy-bridge submit workflow.json)",
    short_help="Queue a workflow, print its id and return at once.",
)
@options.file
@options.asked
@options.as_json
@click.pass_obj
def submit(given: dict[str, Any], /, file: str, as_json: bool, **asked: Any) -> None:
    """Queue a workflow (as for `run`), print its id and return at once."""
    from comfy_mcp.cli import jobs

    execute(given, as_json, lambda s, out: jobs.submit(s, out, file=file, asked=asked))


@click.command(
    cls=Command,
    example="comfy-bridge status 0c5b6f0e-6d1c-4a39-9f53-7f4a4c1f2a10",
    short_help="Show the state of a workflow, or of several together.",
)
@options.workflow_ids
@click.option("--attempts", is_flag=True, help="Also show each attempt: its engine and its result.")
@options.as_json
@click.pass_obj
def status(given: dict[str, Any], /, as_json: bool, **arguments: Any) -> None:
    """Show the state, progress, outputs or error of a workflow, or of several together."""
    from comfy_mcp.cli import jobs

    execute(given, as_json, lambda s, out: jobs.status(s, out, arguments=arguments))


@click.command(cls=Command, example='comfy-bridge graph "$id" > workflow.json')
@options.workflow_id
@click.option("--api", is_flag=True, help="Print the graph in API format, as the engine gets it.")
@options.as_json
@click.pass_obj
def graph(given: dict[str, Any], /, workflow_id: str, api: bool, as_json: bool) -> None:
    """Print the file that was submitted as this workflow."""
    from comfy_mcp.cli import jobs

    execute(given, as_json, lambda s, out: jobs.graph(s, out, workflow_id=workflow_id, api=api))


@click.command(
    cls=Command,
    example='comfy-bridge wait "$id" --timeout 600 -o pictures',
    short_help="Wait for the end of a workflow, or of several.",
)
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
    execute(given, as_json, lambda s, out: jobs.wait(s, out, workflow_id=workflow_id, how=following))


@click.command(cls=Command, example='comfy-bridge cancel "$id" --reason "wrong seed"')
@click.argument("workflow_id", metavar="[ID…]", nargs=-1, callback=options.joined, shell_complete=options.IDS)
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
    execute(given, as_json, lambda s, out: jobs.cancel(s, out, workflow_id=workflow_id, reason=reason))


@click.command(
    cls=Command,
    example='id=$(comfy-bridge retry "$id")',
    short_help="Submit a failed or cancelled workflow again.",
)
@options.workflow_id
@options.as_json
@click.pass_obj
def retry(given: dict[str, Any], /, workflow_id: str, as_json: bool) -> None:
    """Submit a failed or cancelled workflow again, print the new id and return at once."""
    from comfy_mcp.cli import jobs

    execute(given, as_json, lambda s, out: jobs.retry(s, out, workflow_id=workflow_id))


@click.command(cls=Command, example='comfy-bridge priority "$id" high')
@options.workflow_id
@click.argument("priority", type=click.Choice(options.PRIORITIES))
@options.as_json
@click.pass_obj
def priority(given: dict[str, Any], /, workflow_id: str, priority: str, as_json: bool) -> None:
    """Change the priority of a workflow that waits, or of a batch."""
    from comfy_mcp.cli import jobs

    how = {"workflow_id": workflow_id, "priority": priority}
    execute(given, as_json, lambda s, out: jobs.prioritize(s, out, **how))


@click.group("jobs")
def jobs_() -> None:
    """Repair the queue."""


@jobs_.command(
    cls=Command,
    example='comfy-bridge jobs abandon "$id"',
    short_help="End a workflow at once, without asking the engine.",
)
@options.workflow_id
@options.as_json
@click.pass_obj
def abandon(given: dict[str, Any], /, workflow_id: str, as_json: bool) -> None:
    """End a workflow at once, without asking the engine, which may still run it.

    For workflows that `comfy-bridge cancel` does not end, for example after the engine was removed.
    """
    from comfy_mcp.cli import jobs

    execute(given, as_json, lambda s, out: jobs.abandon(s, out, workflow_id=workflow_id))


COMMANDS = (run, submit, status, graph, wait, cancel, retry, priority, jobs_)
