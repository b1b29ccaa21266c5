"""The messages of the streams: the v1 contract's messages as models, and their making from events.

Times are epoch milliseconds, `duration` is milliseconds, `progress` is 0 to 100. `seq` is the event's
position in the log; on other messages it is the position up to which this stream has sent everything.
"""

import json
from functools import partial
from typing import Annotated, Any, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from comfy_mcp.domain.catalog import Output
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.domain.events import (
    CancelRequested,
    JobCancelled,
    JobClaimed,
    JobCompleted,
    JobFailed,
    JobProgressed,
    JobQueued,
    JobRequeued,
    JobStarted,
    JobWaiting,
    PriorityChanged,
    StoredEvent,
)
from comfy_mcp.operations.feed import Described
from comfy_mcp.operations.shapes import OutputKindName, Part, Text, WaitingForItem
from comfy_mcp.operations.views import output_item, parents_item, waiting_item

EVERY = "*"
"""As a workflowId: every workflow that the caller may see."""

MAX_SEQ = 2**63 - 1
Seq = Annotated[int, Field(ge=0, le=MAX_SEQ, strict=True)]
WorkflowId = Annotated[str, Field(min_length=1, max_length=64)]


# ------------------------------------------------------------------------------------ server → client


class Message(Part):
    """Base of all messages to a client."""

    seq: int = Field(
        description="Position in the event log; send the greatest one received as `since`. "
        "A step of progress is not in the log: it has the `seq` of the event before it"
    )


class Pong(Message):
    """The answer to a ping, sent after all earlier commands were processed."""

    type: Literal["pong"] = "pong"


class WorkflowQueued(Message):
    """The workflow is queued, for the first time or again. The position is null once it is no longer queued.
    `waitingFor` is present while it is held and gives the reason; the message is sent again on a change.
    `batch` is in the first message of a workflow that was submitted as one of several."""

    type: Literal["workflow:queued"] = "workflow:queued"
    workflow_id: str
    queue_position: int | None
    waiting_for: WaitingForItem | None = None
    batch: str | None = None
    timestamp: int


class WorkflowStarted(Message):
    type: Literal["workflow:started"] = "workflow:started"
    workflow_id: str
    timestamp: int


class WorkflowProgress(Message):
    """At most four a second for each workflow; `currentNode` is the node's title, or its id."""

    type: Literal["workflow:progress"] = "workflow:progress"
    workflow_id: str
    progress: float = Field(ge=0, le=100)
    current_node: Text | None
    timestamp: int


class StreamOutput(Part):
    """`url` is the path of the file on this server."""

    filename: Text
    type: OutputKindName
    url: str


class WorkflowCompleted(Message):
    """`duration` is null if the start is unknown."""

    type: Literal["workflow:completed"] = "workflow:completed"
    workflow_id: str
    outputs: list[StreamOutput]
    duration: int | None
    timestamp: int


class WorkflowError(Message):
    """The workflow failed; `error` is the short cause."""

    type: Literal["workflow:error"] = "workflow:error"
    workflow_id: str
    error: Text
    timestamp: int


class WorkflowCancelled(Message):
    type: Literal["workflow:cancelled"] = "workflow:cancelled"
    workflow_id: str
    timestamp: int


class StreamError(Message):
    """The client's message could not be processed. The stream continues."""

    type: Literal["error"] = "error"
    code: str
    message: str


class StreamClosed(Message):
    """The last frame of an SSE stream that the server ends before the workflow has ended. Connect again with
    Last-Event-ID, after `unauthenticated` with another key. (On a WebSocket the close code has this
    meaning.)"""

    type: Literal["stream:closed"] = "stream:closed"
    code: Literal["shutting_down", "store_unavailable", "unauthenticated"]
    message: str


WorkflowMessage = (
    WorkflowQueued
    | WorkflowStarted
    | WorkflowProgress
    | WorkflowCompleted
    | WorkflowError
    | WorkflowCancelled
)
WORKFLOW_MESSAGES: tuple[type[Message], ...] = (
    WorkflowQueued,
    WorkflowStarted,
    WorkflowProgress,
    WorkflowCompleted,
    WorkflowError,
    WorkflowCancelled,
)
SOCKET_MESSAGES: tuple[type[Message], ...] = (Pong, *WORKFLOW_MESSAGES, StreamError)
SSE_MESSAGES: tuple[type[Message], ...] = (*WORKFLOW_MESSAGES, StreamClosed)


def wire_text(message: Message) -> str:
    """The message as it goes out: one line of ASCII. A title may hold half a surrogate pair, which JSON can
    say and UTF-8 can't."""
    said = message.model_dump(by_alias=True)
    for name in ("waitingFor", "batch"):
        if said.get(name, ...) is None:
            del said[name]  # the contract's message has no such member
    return json.dumps({"type": said.pop("type"), **said}, separators=(",", ":"))


def message_of(stored: StoredEvent, beside: Described = Described()) -> WorkflowMessage | None:  # noqa: B008
    """The message about an event; None where the contract has none."""
    event, seq = stored.event, stored.seq
    queued = partial(WorkflowQueued, seq=seq, workflow_id=event.job_id, timestamp=event.at)
    match event:
        case JobQueued(after=(_, *_)):
            return queued(queue_position=None, waiting_for=parents_item(event.after), batch=event.batch)
        case JobQueued() | JobRequeued() | PriorityChanged():
            batch = event.batch if isinstance(event, JobQueued) else None
            return queued(queue_position=beside.position, batch=batch)
        case JobWaiting():
            why = event.waiting_for
            return queued(
                queue_position=beside.position, waiting_for=None if why is None else waiting_item(why)
            )
        case JobStarted():
            return WorkflowStarted(seq=seq, workflow_id=event.job_id, timestamp=event.at)
        case JobProgressed():
            return WorkflowProgress(
                seq=seq,
                workflow_id=event.job_id,
                progress=round(event.progress * 100, 1),
                current_node=event.node_title or event.node_id,
                timestamp=event.at,
            )
        case JobCompleted():
            return WorkflowCompleted(
                seq=seq,
                workflow_id=event.job_id,
                outputs=[_stream_output(output) for output in beside.outputs],
                duration=None if beside.started_at is None else max(0, event.at - beside.started_at),
                timestamp=event.at,
            )
        case JobFailed():
            return WorkflowError(
                seq=seq, workflow_id=event.job_id, error=event.failure.message, timestamp=event.at
            )
        case JobCancelled():
            return WorkflowCancelled(seq=seq, workflow_id=event.job_id, timestamp=event.at)
        case JobClaimed() | CancelRequested():
            return None
        case _:
            assert_never(event)


def _stream_output(output: Output) -> StreamOutput:
    item = output_item(output)
    return StreamOutput(filename=item.filename, type=item.type, url=item.url)


# ------------------------------------------------------------------------------------ client → server


class Command(BaseModel):
    """Base of what a client sends. Unknown members are tolerated."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)


class Ping(Command):
    """Answered by a pong."""

    type: Literal["ping"]


class Subscribe(Command):
    """Follow one workflow, or `*` for all that the key may see. With `since`, the messages after that `seq`
    are sent first. For a workflow that has already ended, its last message is sent."""

    type: Literal["subscribe"]
    workflow_id: WorkflowId
    since: Seq | None = None


class Unsubscribe(Command):
    """End a subscription. `*` does not end subscriptions to single workflows."""

    type: Literal["unsubscribe"]
    workflow_id: WorkflowId


COMMANDS: tuple[type[Command], ...] = (Ping, Subscribe, Unsubscribe)
_COMMAND: TypeAdapter[Ping | Subscribe | Unsubscribe] = TypeAdapter(
    Annotated[Ping | Subscribe | Unsubscribe, Field(discriminator="type")]
)
_MAX_FAULT = 200


def parse_command(text: str) -> Ping | Subscribe | Unsubscribe:
    """Raises InvalidInput that says what is wrong, in a bounded text."""
    try:
        return _COMMAND.validate_json(text)
    except ValidationError as error:
        raise InvalidInput(
            _fault(error.errors(include_url=False, include_input=False)[0]),
            next_step='Send {"type": "ping"}, {"type": "subscribe", "workflowId": "…"} or '
            '{"type": "unsubscribe", "workflowId": "…"}.',
        ) from None


def _fault(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    said = f"{where}: {fault['msg']}" if where else str(fault["msg"])
    return f"{said[:_MAX_FAULT]}."
