"""Comfy API v2, driven: Comfy Cloud, a serverless deployment, or another bridge.

The facts are those of the models that Comfy's own SDK comes with. Links are followed, not built, except for
the collections below /api/v2.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from comfy_mcp.domain.errors import EngineBadAnswer
from comfy_mcp.domain.events import FailureKind, JobFailure
from comfy_mcp.domain.ids import EngineId, NodeId, PromptId
from comfy_mcp.domain.media_types import media_type_of
from comfy_mcp.domain.prompt import PromptEnding
from comfy_mcp.places.cloud.http import CHECK_KEY, MESSAGE_CHARS, CloudHttp, Reply
from comfy_mcp.places.cloud.service import CloudJob, Made, NotNow
from comfy_mcp.places.downloads import Downloads
from comfy_mcp.places.protocol import Accepted, InputSource, Rejected

API = "/api/v2"
LABEL = "comfy_bridge"
"""The label by which a job is found whose POST got no answer."""

SLOWEST_BYTES_PER_S = 128 * 1024
UNKNOWN_BYTES = 512 * 2**20
OUTPUT_BYTES = 8 * 2**30
"""Largest output that is fetched."""

DETAIL_CHARS = 16 * 1024
"""Of a traceback: its end says most."""

MOST_MS = 30 * 86_400_000
"""Longest run that is believed."""

_ENDINGS = {
    "succeeded": PromptEnding.SUCCESS,
    "canceled": PromptEnding.INTERRUPTED,
    "failed": PromptEnding.ERROR,
    "expired": PromptEnding.ERROR,
}
_RUNNING = frozenset({"running", "canceling"})
_MISSING = frozenset({"missing_asset", "blob_not_found"})


class ComfyApi:
    """Implements `places.cloud.service.Service`. `download` fetches outputs that lie on other hosts."""

    repeats = True
    largest_input = None

    def __init__(self, http: CloudHttp, download: Downloads) -> None:
        self._http = http
        self._download = download
        self._root = urlsplit(http.base).path.rstrip("/") + API
        self._labels = True

    @property
    def engine(self) -> EngineId:
        return self._http.lane

    async def close(self) -> None:
        await self._http.close()

    async def check(self) -> None:
        reply = await self._http.ask("list of jobs", "GET", f"{self._root}/jobs?limit=1")
        if reply.status != 200:
            raise self._unexpected("list of jobs", reply)

    async def create(
        self, prompt_id: PromptId, graph: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> Accepted | Rejected:
        body: dict[str, Any] = {"workflow": graph} | ({"extra_data": extra} if extra else {})
        label = {"metadata": {LABEL: prompt_id}} if self._labels else {}
        headers = {"Idempotency-Key": prompt_id}
        reply = await self._http.ask(
            "submit", "POST", f"{self._root}/jobs", body=body | label, headers=headers
        )
        if reply.status in {200, 201}:
            return Accepted(dropped={}, reference=self._link(reply.body, "self"))
        code, message = reply.error()
        if code == "metadata_not_supported" and self._labels:
            self._labels = False
            return await self.create(prompt_id, graph, extra)
        if code == "idempotency_key_reuse" and (found := await self.find(prompt_id)) is not None:
            return Accepted(dropped={}, reference=found)
        if reply.status == 404:
            raise NotNow(f"{self.engine}, submit: {message}", next_step=CHECK_KEY, after_s=30.0)
        kind = FailureKind.MISSING_INPUT if code in _MISSING else FailureKind.VALIDATION
        return Rejected(failure=JobFailure(kind=kind, message=f"{self.engine} refused it: {message}"))

    async def find(self, prompt_id: PromptId) -> str | None:
        query = f"?metadata%5B{LABEL}%5D={quote(prompt_id)}&limit=1"
        reply = await self._http.ask("list of jobs", "GET", f"{self._root}/jobs{query}")
        found = reply.body.get("jobs")
        first = found[0] if isinstance(found, list) and found else None
        job_id = first.get("id") if isinstance(first, Mapping) else None
        return f"{self._root}/jobs/{quote(job_id)}" if isinstance(job_id, str) else None

    async def job(self, reference: str) -> CloudJob | None:
        reply = await self._http.ask("job", "GET", reference)
        if reply.status in {404, 410}:
            return None
        status = reply.body.get("status")
        if reply.status != 200 or not isinstance(status, str):
            raise self._unexpected("job", reply)
        ending = _ENDINGS.get(status)
        progress = reply.body.get("progress")
        node = progress.get("current_node") if isinstance(progress, Mapping) else None
        return CloudJob(
            running=status in _RUNNING,
            node=NodeId(node) if isinstance(node, str) else None,
            ending=ending,
            failure=_failure(reply.body, status) if ending is PromptEnding.ERROR else None,
            ran_ms=None if ending is None else _ran_ms(reply.body.get("metrics")),
            made=() if ending is None else tuple(self._made(reply.body.get("outputs"))),
        )

    async def cancel(self, reference: str) -> None:
        await self._http.ask("cancel", "POST", f"{reference}/cancel")

    async def put(self, source: InputSource) -> object:
        with aiohttp.MultipartWriter("form-data") as form:
            fields = {"content_type": media_type_of(source.name), "file_path": source.name}
            for name, value in fields.items():
                form.append(value).set_content_disposition("form-data", name=name)
            async with source.open() as chunks:
                part = form.append(chunks, {"Content-Type": fields["content_type"]})
                part.set_content_disposition("form-data", name="file", filename=source.name)
                more_s = (UNKNOWN_BYTES if source.size is None else source.size) / SLOWEST_BYTES_PER_S
                path = f"{self._root}/assets"
                reply = await self._http.ask("upload", "POST", path, form=form, more_s=more_s)
        asset_id = reply.body.get("id")
        if reply.status not in {200, 201} or not isinstance(asset_id, str):
            raise self._unexpected("upload", reply)
        return {"__type": "core/ASSET", "info": {"id": asset_id}}

    def _link(self, body: Mapping[str, Any], name: str) -> str:
        """Raises EngineBadAnswer."""
        links = body.get("urls")
        link = links.get(name) if isinstance(links, Mapping) else None
        if not isinstance(link, str) or not self._http.is_ours(link):
            raise EngineBadAnswer(f"{self.engine}: the job has no link {name!r}.", next_step=CHECK_KEY)
        return link

    def _made(self, outputs: object) -> Sequence[Made]:
        each = [one for one in outputs if isinstance(one, Mapping)] if isinstance(outputs, list) else []
        return [
            Made(
                name=str(one.get("name") or "output"),
                node=NodeId(str(one["node_id"])) if one.get("node_id") else None,
                open=partial(self._fetch, str(one.get("url"))),
            )
            for one in each
        ]

    @asynccontextmanager
    async def _fetch(self, url: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """From the service itself, else from a public address: never with the key, which such a URL does not
        need."""
        if self._http.is_ours(url):
            async with self._http.bytes_of("output", url) as chunks:
                yield chunks
        else:
            async with self._download(url, OUTPUT_BYTES) as file:
                yield file.chunks()

    def _unexpected(self, what: str, reply: Reply) -> EngineBadAnswer:
        message = reply.error()[1].rstrip(".")
        return EngineBadAnswer(f"{self.engine}, {what}: {message}.", next_step=CHECK_KEY)


def _ran_ms(metrics: object) -> int | None:
    ran = metrics.get("execution_ms") if isinstance(metrics, Mapping) else None
    return round(ran) if isinstance(ran, int | float) and 0 <= ran < MOST_MS else None


def _failure(body: Mapping[str, Any], status: str) -> JobFailure:
    error = body.get("error")
    error = error if isinstance(error, Mapping) else {}
    said = {name: str(value)[:MESSAGE_CHARS] for name, value in error.items() if value and name in _SAID}
    code, node = said.get("code", status), said.get("node_id")
    traceback = error.get("traceback")
    return JobFailure(
        kind=FailureKind(code) if code in set(FailureKind) else FailureKind.NODE_ERROR,
        message=said.get("message", f"The service says: {code}."),
        node_id=NodeId(node) if node else None,
        node_type=said.get("class_type"),
        detail=traceback[-DETAIL_CHARS:] if isinstance(traceback, str) and traceback else None,
    )


_SAID = ("code", "message", "node_id", "class_type")
