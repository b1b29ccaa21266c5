"""The upload of an input, beyond what HTTP can send; the rest is tests/http_sidecar/rest/test_uploads.py."""

import pytest

from comfy_mcp.domain.errors import ErrorCode, InvalidInput
from comfy_mcp.operations.shapes import UploadResult
from tests.operations.conftest import Bench


async def test_a_call_without_a_file_is_refused(call_without_engine: Bench) -> None:
    with pytest.raises(InvalidInput, match="The call has no file") as caught:
        await call_without_engine("upload_input", filename="a.png")
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("subfolder", "shown"), [("", "a.png"), ("mine", "mine/a.png")])
def test_the_line_names_the_file_as_a_node_takes_it(subfolder: str, shown: str) -> None:
    assert UploadResult(name="a.png", subfolder=subfolder, type="input").text() == f"Uploaded as {shown}."
