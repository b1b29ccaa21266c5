"""The folder that a command writes to."""

from pathlib import Path

import pytest

from comfy_mcp.cli.saving import NUMBERS, prepare_folder, prepare_place, save_text
from comfy_mcp.domain.errors import InvalidInput


def test_a_folder_is_made(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_below_a_file_cannot_be_prepared(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="can't be written"):
        prepare_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize("name", ["n" * 5_000, f"{'n' * 5_000}.png", f"{'n' * 300}.png"])
def test_a_place_with_too_long_a_name_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="can't be written"):
        prepare_place(tmp_path / name)


def test_a_text_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    assert save_text("{}", tmp_path, "a") == tmp_path / "a-2.json"
    with pytest.raises(InvalidInput, match="can't be written"):
        save_text("{}", tmp_path / "none", "a")
    for number in range(3, NUMBERS):
        (tmp_path / f"a-{number}.json").touch()
    with pytest.raises(InvalidInput, match="files have that name"):
        save_text("[]", tmp_path, "a")
