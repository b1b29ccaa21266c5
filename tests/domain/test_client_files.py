"""Which texts of a graph name a file that is not the client's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.client_files import FOLDER, folder_of, foreign_files
from comfy_mcp.domain.ids import ClientId, NodeId

ANN = ClientId("ann")
OWN, OTHER = folder_of(ANN), folder_of(ClientId("bob"))


def found(value: Any) -> list[tuple[str, str]]:
    return list(foreign_files({NodeId("1"): {"image": value, "seed": 5}}, ANN))


@pytest.mark.parametrize(
    "value",
    [
        "a.png [output]",
        "a.png[output]",
        "a.png [OUTPUT] ",
        "a.png [temp]",
        f"{OTHER}/a.png",
        f"{OTHER.upper()}/a.png",
        f"{OTHER}/a.png [input]".replace("/", "\\"),
        f"./x/../{OTHER}/a.png",
        f"{OWN}/../{OTHER.partition('/')[2]}/a.png",
        f"{OWN}/../../{OTHER}/a.png",
        f"/srv/comfyui/input/{OTHER}/a.png",
        f"{OWN}/a.png,{OTHER}/b.png",
        f"{FOLDER}",
        f"{FOLDER}/",
        f"{FOLDER}/./{OTHER.partition('/')[2]}",
        f"{OWN}x/a.png",
        [["x"], {"deep": [f"{OTHER}/a.png"]}],
    ],
)
def test_outputs_and_folders_of_others_are_foreign(value: Any) -> None:
    assert found(value) == [("1", "image")]


@pytest.mark.parametrize(
    "value",
    [
        "a.png",
        "shared/a.png",
        "a.png [input]",
        f"{OWN}/a.png",
        f"{OWN}/mine/../a.png [input]",
        f"/srv/comfyui/input/{OWN}/a.png",
        "a castle [output] on a hill",
        None,
        7,
        ["2", 0],
        {"a": 1.5},
    ],
)
def test_the_own_folder_and_files_of_nobody_are_not(value: Any) -> None:
    assert found(value) == []


@given(st.text())
def test_every_client_has_a_folder_of_its_own_that_any_system_takes(name: str) -> None:
    folder = folder_of(ClientId(name))
    top, _, own = folder.partition("/")
    assert (top, len(own), own.isalnum(), own.isascii()) == (FOLDER, 32, True, True)


@given(st.lists(st.sampled_from(["..", ".", "", "x", FOLDER, OTHER, OWN.partition("/")[2]]), max_size=8))
def test_no_way_of_writing_a_path_leads_into_anothers_folder(parts: list[str]) -> None:
    resolved: list[str] = []
    for part in "/".join(parts).split("/"):
        if part == "..":
            resolved = resolved[:-1]
        elif part not in {"", "."}:
            resolved.append(part)
    if "/".join(resolved).startswith(f"{OTHER}"):
        assert found("/".join(["in", "..", *parts])) or parts[:1] == [""]
        assert found("/".join(parts)) == [("1", "image")]
