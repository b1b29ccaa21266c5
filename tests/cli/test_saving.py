"""Names and files of saved outputs."""

from pathlib import Path
from typing import Any

import pytest

from comfy_mcp.cli.saving import file_name, prepare_folder, save_items
from comfy_mcp.domain.errors import InvalidInput
from comfy_mcp.operations.shapes import OutputContentResult, OutputItem, OutputKindName


def output(
    filename: str, *, kind: OutputKindName = "image", content: str | None = None, node: str | None = "9"
) -> OutputItem:
    return OutputItem(
        output_id="o",
        filename=filename,
        workflow_id="w",
        type=kind,
        size=None,
        created_at=0,
        url="",
        uri="",
        node_id=node,
        content=content,
    )


class Reader:
    """A session whose engine always sends these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def call(self, operation: str, arguments: Any, *, on_progress: Any = None) -> Any:
        assert (operation, arguments) == ("read_output", {"output_id": "o"})
        return OutputContentResult(output=output("x"), media_type="image/png", data=self._data)


@pytest.mark.parametrize(
    ("item", "name"),
    [
        (output("ComfyUI_00001_.png"), "ComfyUI_00001_.png"),
        (output("../../etc/passwd"), "_.._etc_passwd"),
        (output("C:\\x?.png"), "C__x_.png"),
        (output(".. "), "image-node9"),
        (output("", kind="text", content="words"), "text-node9.txt"),
        (output("", kind="text", content="words", node="1:2"), "text-node1_2.txt"),
        (output("", kind="file", node=None), "file-node0"),
    ],
)
def test_a_name_stays_in_the_folder(item: OutputItem, name: str) -> None:
    assert file_name(item) == name


async def test_other_bytes_under_a_name_get_a_new_name_and_the_same_bytes_do_not(tmp_path: Path) -> None:
    async def save(data: bytes) -> str:
        (path,) = await save_items(Reader(data), [output("a.png")], tmp_path)
        assert path.read_bytes() == data
        return path.name

    assert [await save(data) for data in (b"one", b"two", b"one", b"three", b"two")] == [
        "a.png",
        "a-2.png",
        "a.png",
        "a-3.png",
        "a-2.png",
    ]


async def test_a_folder_that_is_gone_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="can't be written"):
        await save_items(Reader(b"x"), [output("a.png")], tmp_path / "gone")


def test_a_folder_below_a_file_cannot_be_prepared(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="can't be written"):
        prepare_folder(tmp_path / "file" / "below")
