"""SaladCloud's job queue, whose containers run ComfyUI behind SaladTechnologies' comfyui-api.

A job's `input` is what that worker's POST /prompt takes, its `output` what that answers. docs/salad.md says
which of these facts could not be checked.
"""

import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

from comfy_mcp.domain.errors import EngineBadAnswer, ErrorCode, InvalidInput, LimitExceeded
from comfy_mcp.domain.events import FailureKind, JobFailure
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.prompt import PromptEnding
from comfy_mcp.places.cloud.http import CHECK_KEY, CloudHttp, Reply
from comfy_mcp.places.cloud.service import CloudJob, Made
from comfy_mcp.places.protocol import Accepted, InputSource, Rejected

NO_JOB = "00000000-0000-0000-0000-000000000000"
INLINE_BYTES = 5 * 2**20
"""Largest input file: it stands in the job as base64, and the queue takes no more than some megabytes."""

NO_RESULT = (
    "The job succeeded, and its result can't be read: the queue delivers no results of more than 10 MB."
)
_ENDINGS = {
    "succeeded": PromptEnding.SUCCESS,
    "cancelled": PromptEnding.INTERRUPTED,
    "failed": PromptEnding.ERROR,
}


class Salad:
    """Implements `places.cloud.service.Service`. The queue knows no key for repeats."""

    repeats = False
    largest_input = INLINE_BYTES

    def __init__(self, http: CloudHttp) -> None:
        self._http = http
        self._jobs = f"{urlsplit(http.base).path}/jobs"

    @property
    def engine(self) -> EngineId:
        return self._http.lane

    async def close(self) -> None:
        await self._http.close()

    async def check(self) -> None:
        """Ask for a job that does not exist: the answer says whether the key is accepted."""
        await self._http.ask("queue", "GET", f"{self._jobs}/{NO_JOB}")

    async def create(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> Accepted | Rejected:
        body = {"input": {"prompt": graph, "id": prompt_id}, "metadata": {"comfy_bridge": prompt_id}}
        reply = await self._http.ask("submit", "POST", self._jobs, body=body)
        job_id = reply.body.get("id")
        if reply.status in {200, 201, 202} and isinstance(job_id, str):
            return Accepted(dropped={}, reference=f"{self._jobs}/{quote(job_id)}")
        if 400 <= reply.status < 500:
            message = f"{self.engine} refused it: {_said(reply.body) or reply.error()[1]}"
            return Rejected(failure=JobFailure(kind=FailureKind.VALIDATION, message=message))
        raise self._unexpected("submit", reply)

    async def find(self, prompt_id: PromptId) -> str | None:
        """None: the queue is not searched by what a job was sent with."""
        return None

    async def job(self, reference: str) -> CloudJob | None:
        reply = await self._http.ask("job", "GET", reference)
        status = reply.body.get("status")
        if reply.status in {404, 410}:
            return None
        if reply.status != 200 or not isinstance(status, str):
            raise self._unexpected("job", reply)
        output = reply.body.get("output")
        output = output if isinstance(output, Mapping) else {}
        ending, failure, made = _ENDINGS.get(status), None, tuple(_made(output))
        if ending is PromptEnding.ERROR:
            message = _said(output) or "SaladCloud gave the job up after its attempts."
            failure = JobFailure(kind=FailureKind.NODE_ERROR, message=message)
        elif ending is PromptEnding.SUCCESS and not isinstance(output.get("images"), list):
            ending = PromptEnding.ERROR
            failure = JobFailure(kind=FailureKind.ENGINE_BAD_ANSWER, message=NO_RESULT)
        return CloudJob(running=status == "running", ending=ending, failure=failure, made=made)

    async def cancel(self, reference: str) -> None:
        await self._http.ask("cancel", "DELETE", reference)

    async def put(self, source: InputSource) -> object:
        """The file itself, as the worker takes it in the place of a name. Raises LimitExceeded."""
        data = b""
        async with source.open() as chunks:
            async for chunk in chunks:
                data += chunk
                if len(data) > INLINE_BYTES:
                    raise LimitExceeded(
                        f"An input file is larger than {INLINE_BYTES} bytes, too large for {self.engine}.",
                        next_step="Use a smaller one.",
                        code=ErrorCode.TOO_LARGE,
                    )
        return base64.b64encode(data).decode()

    def _unexpected(self, what: str, reply: Reply) -> EngineBadAnswer:
        return EngineBadAnswer(f"{self.engine}, {what}: HTTP {reply.status}.", next_step=CHECK_KEY)


def _said(body: Mapping[str, Any]) -> str | None:
    """What a body says is wrong: `error`, `message`, or a problem's `detail` and `title`."""
    texts = (body.get(name) for name in ("error", "message", "detail", "title"))
    return next((text[:500] for text in texts if isinstance(text, str) and text), None)


def _made(output: Mapping[str, Any]) -> list[Made]:
    images, names = output.get("images"), output.get("filenames")
    images, names = (each if isinstance(each, list) else [] for each in (images, names))
    return [
        Made(
            name=str(names[number]) if number < len(names) else f"output_{number + 1}.png",
            open=partial(_decoded, image),
        )
        for number, image in enumerate(images)
    ]


@asynccontextmanager
async def _decoded(image: object) -> AsyncIterator[AsyncIterator[bytes]]:
    try:
        data = base64.b64decode(image if isinstance(image, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("it is not base64.", next_step="Look at the worker's version.") from None

    async def once() -> AsyncIterator[bytes]:
        yield data

    yield once()
