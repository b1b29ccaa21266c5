"""The folder that a command writes to."""

from pathlib import Path

import pytest

from comfy_mcp.cli.saving import prepare_folder
from comfy_mcp.domain.errors import InvalidInput


def test_a_folder_is_made(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_below_a_file_cannot_be_prepared(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="can't be written"):
        prepare_folder(tmp_path / "file" / "below")
