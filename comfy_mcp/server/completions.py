"""Completions: names and ids for the arguments of prompts and of resource templates."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    PromptReference,
    ResourceTemplateReference,
)

from comfy_mcp.operations.bridge import Bridge
from comfy_mcp.operations.context import Caller
from comfy_mcp.operations.shapes import FoundWorkflowsResult, OutputsResult, WorkflowsResult
from comfy_mcp.server.prompts import prompt_named
from comfy_mcp.server.resources import templates

MOST = 100
"""Values of one answer, and the newest jobs and outputs among which ids are looked for."""

Candidate = tuple[str, str]
"""A value, and what people call it."""


async def complete(
    bridge: Bridge,
    caller: Caller,
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
) -> Completion:
    """Values that begin like what was typed, then those whose name has it. Raises MCPError, BridgeError."""
    if argument.name not in _arguments(ref):
        raise MCPError(code=INVALID_PARAMS, message=f"No argument {argument.name[:100]!r} to complete.")
    candidates = _CANDIDATES.get(argument.name)
    if candidates is None:  # words of a person
        return Completion(values=[])
    typed = argument.value.strip().lower()
    found = list(await candidates(bridge, caller))
    first = [value for value, _ in found if value.lower().startswith(typed)]
    named = [value for value, name in found if value not in first and typed in f"{value} {name}".lower()]
    values = [*first, *named]
    return Completion(values=values[:MOST], total=len(values), has_more=len(values) > MOST)


def _arguments(ref: PromptReference | ResourceTemplateReference) -> Iterable[str]:
    """Raises MCPError for an unknown prompt or template."""
    if isinstance(ref, PromptReference):
        return [each.name for each in prompt_named(ref.name).arguments or ()]
    if ref.uri not in {each.uri_template for each in templates()}:
        raise MCPError(code=INVALID_PARAMS, message=f"Unknown resource template: {ref.uri[:200]}.")
    return [name for name in _CANDIDATES if f"{{{name}}}" in ref.uri]


async def _workflows(bridge: Bridge, caller: Caller) -> Iterable[Candidate]:
    found: FoundWorkflowsResult = await bridge.call("find_workflow", {"limit": MOST}, caller=caller)
    return [(each.name, each.label or "") for each in found.workflows]


async def _jobs(bridge: Bridge, caller: Caller) -> Iterable[Candidate]:
    listed: WorkflowsResult = await bridge.call("list_workflows", {"limit": MOST}, caller=caller)
    return [(each.workflow_id, each.name or "") for each in listed.workflows]


async def _outputs(bridge: Bridge, caller: Caller) -> Iterable[Candidate]:
    listed: OutputsResult = await bridge.call("list_outputs", {"limit": MOST}, caller=caller)
    return [(each.output_id, each.filename) for each in listed.outputs]


_CANDIDATES: Mapping[str, Callable[[Bridge, Caller], Awaitable[Iterable[Candidate]]]] = {
    "workflow": _workflows,
    "workflow_id": _jobs,
    "workflowId": _jobs,
    "output_id": _outputs,
    "outputId": _outputs,
}
