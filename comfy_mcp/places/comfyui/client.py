"""ComfyUI's HTTP API: one method per endpoint, bounded in time and size.

Every method raises EngineUnreachable or EngineBadAnswer, and nothing else where its docstring is silent.
"""

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from comfy_mcp.domain.catalog import Model, OutputFile
from comfy_mcp.domain.errors import EngineBadAnswer, ErrorCode, InvalidInput, NotFound
from comfy_mcp.domain.events import FailureKind, JobFailure
from comfy_mcp.domain.ids import EngineId, PromptId
from comfy_mcp.domain.prompt import PromptResult
from comfy_mcp.domain.workflow_entries import WorkflowEntry
from comfy_mcp.places.comfyui.answers import (
    accepted,
    json_object,
    model_names,
    models_of,
    prompt_result,
    queue_remaining,
    queue_view,
    rejected,
    uploaded,
)
from comfy_mcp.places.comfyui.diagnosis import refuses_the_request
from comfy_mcp.places.comfyui.offered import pack_templates_of, saved_of, templates_of
from comfy_mcp.places.comfyui.transport import Answer, Transport
from comfy_mcp.places.protocol import Accepted, QueueView, Rejected, UploadedFile
from comfy_mcp.settings import EngineGroup, EngineSettings

MIB = 2**20
SMALL_BYTES = 4 * MIB
# /queue carries every pending prompt whole, /history/{id} one prompt and what its nodes showed.
QUEUE_BYTES = 256 * MIB
HISTORY_BYTES = 64 * MIB
# 0.7 MB without custom nodes; some tens with very many.
OBJECT_INFO_BYTES = 128 * MIB
# An upload slower than this is given up.
_SLOWEST_UPLOAD_BYTES_PER_S = 256 * 1024


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class ComfyUIClient:
    """One engine. The session opens with the first call; `async with` or `close` ends it."""

    def __init__(self, engine: EngineSettings, settings: EngineGroup) -> None:
        self.transport = Transport(engine, settings)

    @property
    def engine(self) -> EngineId:
        return self.transport.engine

    async def close(self) -> None:
        await self.transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- prompts

    async def post_prompt(
        self,
        graph: Mapping[str, Any],
        *,
        prompt_id: PromptId,
        client_id: str,
        extra_data: Mapping[str, Any] = _NOTHING,
    ) -> Accepted | Rejected:
        """POST /prompt, once. After an EngineFault the engine may have it all the same: look it up."""
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id}
        if extra_data:
            body["extra_data"] = extra_data
        status, answer = await self.transport.post_json(
            "/prompt", body, limit=HISTORY_BYTES, parse=(200, 400)
        )
        with self.transport.translated("POST /prompt"):
            if status == 200:
                return accepted(answer)
            if status == 400:
                return rejected(answer)
        fault = self._unexpected("POST /prompt", status)
        if refuses_the_request(status):
            return Rejected(failure=JobFailure(kind=FailureKind.ENGINE_BAD_ANSWER, message=str(fault)))
        raise fault

    async def queue(self) -> QueueView:
        """GET /queue. Its size is that of all prompts in it: for a count use `prompt_count`."""
        answer = await self._get("/queue", QUEUE_BYTES)
        with self.transport.translated("GET /queue"):
            return queue_view(answer)

    async def prompt_count(self) -> int:
        """GET /prompt: prompts pending and running, whoever sent them."""
        answer = await self._get("/prompt", SMALL_BYTES)
        with self.transport.translated("GET /prompt"):
            return queue_remaining(answer)

    async def history(self, prompt_id: PromptId) -> PromptResult | None:
        """GET /history/{id}; None while it is pending, running or unknown."""
        path = f"/history/{quote(prompt_id, safe='')}"
        answer = await self._get(path, HISTORY_BYTES)
        with self.transport.translated("GET /history"):
            return prompt_result(answer, prompt_id)

    async def interrupt(self, prompt_id: PromptId) -> None:
        """POST /interrupt for this prompt; a no-op if it does not run (ComfyUI 0.3.56+).

        Never without an id: an empty body ends whatever runs.
        """
        await self._post("/interrupt", {"prompt_id": prompt_id})

    async def cancel_job(self, prompt_id: PromptId) -> bool:
        """POST /api/jobs/{id}/cancel (ComfyUI 0.26+), pending or running. False: it was not cancelled so."""
        path = f"/api/jobs/{quote(prompt_id, safe='')}/cancel"
        status, answer = await self.transport.post_json(path, {}, limit=SMALL_BYTES)
        return status == 200 and isinstance(answer, dict) and answer.get("cancelled") is True

    async def delete_pending(self, prompt_ids: Sequence[PromptId]) -> None:
        """POST /queue {delete}: pending ones only, and always answered with 200."""
        await self._post("/queue", {"delete": list(prompt_ids)})

    # ---- files

    @asynccontextmanager
    async def view(self, file: OutputFile, *, byte_range: str | None = None) -> AsyncIterator[Answer]:
        """GET /view as a stream; status 206 when a range (`bytes=0-9`) was asked for and accepted.

        Raises NotFound (output_gone), EngineBadAnswer (output_unreadable) for a file that the engine may not
        read, and InvalidInput for a range outside it. A folder that it may not read is empty for it: its
        files are gone.
        """
        headers = {"Range": byte_range} if byte_range else None
        async with self.transport.stream("/view", params=_view_params(file), headers=headers) as answer:
            self._require_file(file, answer.status)
            yield answer

    async def read_file(self, file: OutputFile, *, limit: int) -> tuple[bytes, int] | None:
        """GET /view: the bytes, and the length that the engine said; None for more than `limit`, or where it
        said none. Raises what `view` raises."""
        answer = await self.transport.get_file("/view", params=_view_params(file), limit=limit)
        self._require_file(file, answer.status)
        size = answer.content_length if answer.status == 200 else None
        return None if size is None or size > limit else (answer.body, size)

    def _require_file(self, file: OutputFile, status: int) -> None:
        if status == 403:
            raise EngineBadAnswer(
                f"The engine {self.engine} has no permission to read {file.filename!r}.",
                next_step="Check the permissions of the engine's output folder.",
                code=ErrorCode.OUTPUT_UNREADABLE,
            )
        if status == 400 and ".." in file.filename:
            raise EngineBadAnswer(
                f"ComfyUI serves no file whose name has '..', such as {file.filename!r}.",
                next_step="Use a filename_prefix without '..', or set COMFYUI_OUTPUTS to the folder.",
                code=ErrorCode.OUTPUT_UNREADABLE,
            )
        if status in {400, 404}:
            raise NotFound(
                f"The engine {self.engine} no longer has {file.filename!r}.",
                next_step="Run the workflow again, or check the location of the engine's output folder.",
                code=ErrorCode.OUTPUT_GONE,
            )
        if status == 416:
            raise InvalidInput("The range is outside the file.", next_step="Ask for a smaller range.")
        if status not in {200, 206}:
            raise self._unexpected("GET /view", status)

    async def view_size(self, file: OutputFile) -> int | None:
        """HEAD /view: bytes of the file; None when the engine does not have it or does not say."""
        status, length = await self.transport.content_length("/view", params=_view_params(file))
        return length if status == 200 else None

    async def upload_image(
        self,
        filename: str,
        content: AsyncIterable[bytes],
        *,
        size: int | None = None,
        folder_type: str = "input",
        subfolder: str = "",
        overwrite: bool = False,
    ) -> UploadedFile:
        """POST /upload/image, streamed, for any type of file. Use the returned name: it may be another.

        `size` in bytes, where known, sets the time allowed.
        """
        with aiohttp.MultipartWriter("form-data") as form:
            part = form.append(content, {"Content-Type": "application/octet-stream"})
            # Raw as browsers send it: percent-encoded, the name would be kept with the percent signs.
            part.set_content_disposition("form-data", quote_fields=False, name="image", filename=filename)
            fields = {"type": folder_type, "subfolder": subfolder, "overwrite": str(overwrite).lower()}
            for name, value in fields.items():
                form.append(value).set_content_disposition("form-data", name=name)
        expected = size if size is not None else 512 * MIB
        timeout_s = expected / _SLOWEST_UPLOAD_BYTES_PER_S
        status, answer = await self.transport.post_form(
            "/upload/image", form, limit=SMALL_BYTES, timeout_s=timeout_s
        )
        if status != 200:
            raise self._unexpected("POST /upload/image", status)
        with self.transport.translated("POST /upload/image"):
            return uploaded(answer)

    # ---- what the engine has

    async def object_info(self) -> Mapping[str, Any]:
        """GET /object_info: every node class (0.7 MB, 0.3 s without custom ones)."""
        answer = await self._get("/object_info", OBJECT_INFO_BYTES)
        with self.transport.translated("GET /object_info"):
            nodes = json_object(answer, "GET /object_info")
        if not nodes:
            raise self.transport.bad_answer("GET /object_info", "the list of nodes is empty")
        return nodes

    async def node_replacements(self) -> frozenset[str]:
        """Old class names that the engine replaces by itself; none where it does not say (before 0.33)."""
        status, answer = await self.transport.get_json("/node_replacements", limit=HISTORY_BYTES)
        return frozenset(answer) if status == 200 and isinstance(answer, dict) else frozenset()

    async def upload_limit(self) -> int | None:
        """`max_upload_size` of GET /features, in bytes; None where the engine does not say."""
        status, answer = await self.transport.get_json("/features", limit=SMALL_BYTES)
        limit = answer.get("max_upload_size") if status == 200 and isinstance(answer, dict) else None
        return limit if isinstance(limit, int) and limit > 0 else None

    async def model_folders(self) -> tuple[str, ...]:
        answer = await self._get("/models", SMALL_BYTES)
        with self.transport.translated("GET /models"):
            return model_names(answer)

    async def models(self, folder: str) -> tuple[str, ...]:
        """Names in one folder. Raises NotFound."""
        path = f"/models/{quote(folder, safe='')}"
        status, answer = await self.transport.get_json(path, limit=HISTORY_BYTES)
        if status == 404:
            raise NotFound(
                f"The engine {self.engine} has no model folder {folder!r}.",
                next_step="List the model types for the names that exist.",
                code=ErrorCode.NOT_FOUND,
            )
        if status != 200:
            raise self._unexpected("GET /models", status)
        with self.transport.translated("GET /models"):
            return model_names(answer)

    async def experiment_models(self, folder: str) -> tuple[Model, ...]:
        """Models of one folder with size and mtime; without them where the engine has only /models/{folder}.

        Raises NotFound.
        """
        path = f"/experiment/models/{quote(folder, safe='')}"
        status, answer = await self.transport.get_json(path, limit=HISTORY_BYTES)
        if status == 200:
            with self.transport.translated("GET /experiment/models"):
                return models_of(answer, folder)
        return tuple(Model(name=name, type=folder) for name in await self.models(folder))

    async def templates(self) -> tuple[WorkflowEntry, ...]:
        """GET /templates/index.json, and index.mcp.json where it is served, and /workflow_templates: those of
        custom nodes. None where no templates are."""
        index = await self._optional("/templates/index.json", HISTORY_BYTES)
        described = await self._optional("/templates/index.mcp.json", HISTORY_BYTES) if index else None
        packs = await self._optional("/workflow_templates", HISTORY_BYTES)
        return (*templates_of(index, described), *pack_templates_of(packs))

    async def template(self, name: str) -> Any:
        """GET /templates/{name}.json; of a pack ("pack/name") GET /api/workflow_templates/{pack}/{name}.json.
        None: there is none."""
        folder = "/api/workflow_templates" if "/" in name else "/templates"
        return await self._optional(f"{folder}/{quote(name)}.json", HISTORY_BYTES)

    async def saved_workflows(self) -> tuple[WorkflowEntry, ...]:
        """GET /userdata?dir=workflows: of the user that the engine runs for by default."""
        return saved_of(
            await self._optional("/userdata?dir=workflows&recurse=true&full_info=true", HISTORY_BYTES)
        )

    async def saved_workflow(self, name: str) -> Any:
        """GET /userdata/workflows%2F{name}.json; None: there is none."""
        return await self._optional(f"/userdata/{quote(f'workflows/{name}.json', safe='')}", HISTORY_BYTES)

    async def system_stats(self) -> Mapping[str, Any]:
        """`{system: {comfyui_version, …}, devices: [{name, type, vram_total, vram_free, …}]}`, bytes."""
        answer = await self._get("/system_stats", SMALL_BYTES)
        with self.transport.translated("GET /system_stats"):
            return json_object(answer, "GET /system_stats")

    async def free(self) -> None:
        """POST /free: unload the models, and give back the memory of what ran."""
        await self._post("/free", {"unload_models": True, "free_memory": True})

    # ---- below

    async def _get(self, path: str, limit: int) -> Any:
        status, answer = await self.transport.get_json(path, limit=limit)
        if status != 200:
            raise self._unexpected(f"GET {path}", status)
        return answer

    async def _optional(self, path: str, limit: int) -> Any:
        """None where the engine has no such path, or will not say."""
        status, answer = await self.transport.get_json(path, limit=limit)
        return answer if status == 200 else None

    async def _post(self, path: str, body: Mapping[str, Any]) -> None:
        """A POST whose answer has nothing to say (an empty 200)."""
        status, _ = await self.transport.post_json(path, body, limit=SMALL_BYTES, parse=())
        if status != 200:
            raise self._unexpected(f"POST {path}", status)

    def _unexpected(self, endpoint: str, status: int) -> EngineBadAnswer:
        return self.transport.unexpected(endpoint, status)


def _view_params(file: OutputFile) -> dict[str, str]:
    # The subfolder is required: without it a file of a subfolder is a 404.
    return {"filename": file.filename, "subfolder": file.subfolder, "type": file.folder_type}
