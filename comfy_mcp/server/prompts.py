"""Prompts: what people choose from a menu of their client. Each says in words which tools do it."""

from collections.abc import Callable, Mapping

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, GetPromptResult, Prompt, PromptArgument, PromptMessage, TextContent

MAX_CHARS = 4_000
"""Of an argument; the rest is cut."""

PROMPTS = (
    Prompt(
        name="make-a-picture",
        title="Make a picture",
        description="Make a picture from words.",
        arguments=[
            PromptArgument(name="picture", description="What it shows", required=True),
            PromptArgument(name="workflow", description="Name of a workflow; default: one that runs here"),
        ],
    ),
    Prompt(
        name="improve-this-picture",
        title="Improve this picture",
        description="Change a picture that a workflow made.",
        arguments=[
            PromptArgument(name="change", description="What should be different", required=True),
            PromptArgument(name="output_id", description="Id of the picture; default: the newest one"),
        ],
    ),
    Prompt(
        name="why-does-it-hang",
        title="Why does it hang?",
        description="Find out why a workflow does not go on.",
        arguments=[PromptArgument(name="workflow_id", description="Id; default: all that have not ended")],
    ),
)


def get_prompt(name: str, arguments: Mapping[str, str]) -> GetPromptResult:
    """Raises MCPError for an unknown name, and where an argument is missing."""
    prompt = prompt_named(name)
    given = {key: value.strip()[:MAX_CHARS] for key, value in arguments.items() if value.strip()}
    for argument in prompt.arguments or ():
        if argument.required and argument.name not in given:
            raise MCPError(code=INVALID_PARAMS, message=f"The prompt {name} needs {argument.name!r}.")
    text = TextContent(text=_TEXTS[name](given))
    return GetPromptResult(
        description=prompt.description, messages=[PromptMessage(role="user", content=text)]
    )


def prompt_named(name: str) -> Prompt:
    """Raises MCPError."""
    found = next((each for each in PROMPTS if each.name == name), None)
    if found is None:
        known = ", ".join(each.name for each in PROMPTS)
        raise MCPError(code=INVALID_PARAMS, message=f"Unknown prompt: {name[:100]}. Prompts: {known}.")
    return found


def _make(given: Mapping[str, str]) -> str:
    workflow = given.get("workflow")
    first = (
        f'Call describe_workflow(name="{workflow}") for its inputs.'
        if workflow
        else 'Call find_workflow(query="text to image", kind="image") and choose the first that runs here.'
    )
    return (
        f"Make this picture with ComfyUI: {given['picture']}\n\n"
        f"1. {first}\n"
        "2. Call submit_workflow with its name and inputs. As prompt, describe subject, light and style.\n"
        "3. Call wait_for_workflow until it has ended, and show me the picture. If it failed, say why in one "
        "sentence and follow the next step of the answer."
    )


def _improve(given: Mapping[str, str]) -> str:
    output = given.get("output_id")
    look = (
        f'Look at it: view_output(output_id="{output}").'
        if output
        else 'list_outputs(type="image", limit=1) names the newest picture. Look at it with view_output.'
    )
    return (
        f"Change a picture that ComfyUI made: {given['change']}\n\n"
        f"1. {look} Its workflow is the job:ID with the workflowId of the output.\n"
        '2. If other inputs can make the change, call describe_workflow(name="job:ID"), then '
        'submit_workflow(workflow="job:ID", inputs={…}) with those that change; the others, the seed among '
        "them, stay. Otherwise find a workflow that takes an image (find_workflow), and pass the picture as "
        '"output:ID".\n'
        "3. Call wait_for_workflow, compare both pictures, and tell me what is different."
    )


def _hang(given: Mapping[str, str]) -> str:
    job = given.get("workflow_id")
    first = (
        f'Call workflow_status(workflow_id="{job}").'
        if job
        else 'Call list_workflows(status="running") and list_workflows(status="queued"), then '
        "workflow_status of the first."
    )
    return (
        f"Why does {f'the ComfyUI workflow {job}' if job else 'my ComfyUI workflow'} not go on?\n\n"
        f"1. {first} Read waitingFor, silence, warnings and nextStep.\n"
        "2. Call system_status: engines, queue, GPU, and problems with what fixes them.\n"
        "3. Tell me in plain words what it waits for, since when, and what I can do. Cancel nothing unless I "
        "say so."
    )


_TEXTS: Mapping[str, Callable[[Mapping[str, str]], str]] = {
    "make-a-picture": _make,
    "improve-this-picture": _improve,
    "why-does-it-hang": _hang,
}
