"""The upload of an input, beyond what HTTP can send; the rest is tests/http_sidecar/rest/test_uploads.py."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from comfy_mcp.domain.access import ALL_RIGHTS, DEFAULT_KEY_RIGHTS
from comfy_mcp.domain.client_files import folder_of
from comfy_mcp.domain.errors import Denied, EngineUnreachable, ErrorCode, InvalidInput
from comfy_mcp.domain.ids import ClientId
from comfy_mcp.operations.context import Caller, OperationContext
from comfy_mcp.operations.registry import BY_NAME
from comfy_mcp.operations.shapes import UploadResult
from comfy_mcp.runtime import open_runtime
from comfy_mcp.settings import Settings
from tests.operations.conftest import Bench
from tests.support.graphs import picture


async def test_a_call_without_a_file_is_refused(call_without_engine: Bench) -> None:
    with pytest.raises(InvalidInput, match="The call has no file") as caught:
        await call_without_engine("upload_input", filename="a.png")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("subfolder", "shown"), [("", "a.png"), ("mine", "mine/a.png")])
def test_the_line_names_the_file_as_a_node_takes_it(subfolder: str, shown: str) -> None:
    assert UploadResult(name="a.png", subfolder=subfolder, type="input").text() == f"Uploaded as {shown}."


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c63600000000200014898b5960000000049454e44ae426082"
)


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def upload(call: Bench, **arguments: object) -> UploadResult:
    context = OperationContext(services=call.services, caller=call.caller, content=once(PIXEL))
    result: UploadResult = await BY_NAME["upload_input"].call(context, arguments)
    return result


def load(name: str) -> dict[str, object]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }


class Unreachable:
    """Engines of which none takes a file."""

    several = False

    async def upload_limit(self) -> None:
        return None

    async def upload(self, *_: Any, **__: Any) -> None:
        raise EngineUnreachable("No engine answers.", next_step="Start ComfyUI.")


async def test_an_engine_that_takes_no_file_is_said_to_be_the_cause(call_without_engine: Bench) -> None:
    services = replace(call_without_engine.services, engines=Unreachable())  # type: ignore[arg-type]
    with pytest.raises(EngineUnreachable, match="No engine answers"):
        await upload(Bench(services, call_without_engine.caller), filename="a.png")


async def test_clients_that_are_kept_apart_use_their_own_files_only(settings: Settings) -> None:
    async with open_runtime(settings.model_copy(update={"isolate_clients": True})) as services:
        ann, bob, chief = (
            Bench(services, Caller(client=ClientId(name), surface="http", rights=rights))
            for name, rights in (
                ("ann", DEFAULT_KEY_RIGHTS),
                ("bob", DEFAULT_KEY_RIGHTS),
                ("chief", ALL_RIGHTS),
            )
        )
        anns = await upload(ann, filename="a.png", subfolder="mine")
        bobs = await upload(bob, filename="a.png", overwrite=True)
        assert (anns.subfolder, bobs.subfolder) == (
            f"{folder_of(ClientId('ann'))}/mine",
            folder_of(ClientId("bob")),
        )
        assert (await upload(chief, filename="b.png")).subfolder == ""
        mine, theirs = (f"{each.subfolder}/{each.name}" for each in (anns, bobs))
        job = await ann("submit_workflow", workflow=load(mine))
        assert (await ann("wait_for_workflow", workflow_id=job.workflow_id)).status == "completed"
        for name in (theirs, "x_00001_.png [output]"):
            with pytest.raises(Denied, match="Node 1, input 'image'"):
                await ann("submit_workflow", workflow=load(name))
        assert (await chief("submit_workflow", workflow=load(theirs))).status == "queued"


async def test_a_file_in_a_folder_that_the_list_does_not_show_gives_no_warning(call: Bench) -> None:
    """LoadImage lists the top of the input folder only; the engine is asked for the rest."""
    uploaded = await upload(call, filename="a.png", subfolder="mine")
    job = await call("submit_workflow", workflow=load(f"{uploaded.subfolder}/{uploaded.name}"))
    assert job.warnings == []


async def test_without_the_setting_an_output_of_another_is_a_file_like_any_other(call: Bench) -> None:
    made = await call("submit_workflow", workflow=picture("x"))
    await call("wait_for_workflow", workflow_id=made.workflow_id, timeout_s=20)
    call.caller = Caller(client=ClientId("ann"), surface="http", rights=DEFAULT_KEY_RIGHTS)
    assert (await upload(call, filename="a.png")).subfolder == ""
    assert (await call("submit_workflow", workflow=load("x_00001_.png [output]"))).status == "queued"
