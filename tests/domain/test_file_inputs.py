"""What a text in a file input means, and which inputs are files."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy_mcp.domain.file_inputs import (
    FOLDER,
    Source,
    file_inputs,
    kept_in,
    kept_name,
    output_name,
    placed,
    reference,
    suffix_for,
    suffix_of,
    with_texts,
)
from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.ids import OutputId
from comfy_mcp.domain.object_info import ObjectInfo

ID = "3902308d-7cc0-4a3c-8bdf-9683a88bf932"
DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("text", "source", "means"),
    [
        ("cat.png", Source.NAME, "cat.png"),
        ("sub/cat.png", Source.NAME, "sub/cat.png"),
        (" `cat.png` ", Source.NAME, "cat.png"),
        ("cat.png [output]", Source.NAME, "cat.png"),
        ("clip: one.png", Source.NAME, "clip: one.png"),
        ("/a/cat.png", Source.PATH, "/a/cat.png"),
        ("./cat.png", Source.PATH, "./cat.png"),
        ("../cat.png", Source.PATH, "../cat.png"),
        ("~/cat.png", Source.PATH, "~/cat.png"),
        ("C:\\a\\cat.png", Source.PATH, "C:\\a\\cat.png"),
        ("C:/a/cat.png", Source.PATH, "C:/a/cat.png"),
        ("\\\\host\\share\\cat.png", Source.PATH, "\\\\host\\share\\cat.png"),
        ("file:///a/b%20c.png", Source.PATH, "/a/b c.png"),
        ("file://localhost/a.png", Source.PATH, "a.png"),
        ("file://cat.png", Source.PATH, "cat.png"),
        ("file:cat.png", Source.PATH, "cat.png"),
        ("file:///C:/a.png", Source.PATH, "C:/a.png"),
        ("https://example.org/a.png", Source.URL, "https://example.org/a.png"),
        ("HTTP://example.org/a.png", Source.URL, "HTTP://example.org/a.png"),
        ("data:image/png;base64,AA==", Source.DATA, "data:image/png;base64,AA=="),
        ("ftp://example.org/a.png", Source.UNKNOWN, "ftp://example.org/a.png"),
        (f"output:{ID}", Source.OUTPUT, ID),
        (f"output:{ID.upper()}", Source.OUTPUT, ID),
        ("output:3902308d", Source.OUTPUT, "3902308d"),
        (f"comfy://outputs/{ID}", Source.OUTPUT, ID),
        (f"https://host.example/v1/comfyui/output/{ID}?exp=1&sig=x", Source.OUTPUT, ID),
        (ID, Source.OUTPUT, ID),
        (f"{FOLDER}/output-{ID}", Source.OUTPUT, ID),
        (f"{FOLDER}/{DIGEST}.png", Source.KEPT, f"{DIGEST}.png"),
        (f"{FOLDER}/{DIGEST}", Source.KEPT, DIGEST),
        (f"{FOLDER}/{DIGEST}.png/../x", Source.NAME, f"{FOLDER}/{DIGEST}.png/../x"),
        ("", Source.NAME, ""),
        ("output:zzzz", Source.OUTPUT, "zzzz"),
        ("outputs://fox.png", Source.OUTPUT, "fox.png"),
    ],
)
def test_what_a_text_means(text: str, source: Source, means: str) -> None:
    found = reference(text)
    assert (found.source, found.text) == (source, means)


def test_the_folder_of_a_name_is_told() -> None:
    assert [reference(f"a.png [{place}]").folder for place in ("input", "output", "temp")] == [
        "input", "output", "temp",
    ]  # fmt: skip


@given(st.text(max_size=60))
def test_any_text_means_something_and_nothing_of_ours_by_accident(text: str) -> None:
    found = reference(text)
    if found.source is Source.KEPT:
        assert "/" not in found.text
        assert ".." not in found.text
    assert suffix_of(text) == "" or suffix_of(text)[1:].isalnum()


def test_what_the_graph_says_is_understood_again() -> None:
    assert reference(kept_name(f"{DIGEST}.png")).text == f"{DIGEST}.png"
    assert reference(output_name(OutputId(ID))).text == ID
    assert kept_in(f'{{"a": "{FOLDER}/{DIGEST}.png", "b": "{FOLDER}/x"}}') == {f"{DIGEST}.png"}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.PNG", ".png"), ("a", ""), ("a.tar.gz", ".gz"), ("https://h/a.jpg?x=.php", ".jpg"),
        (".png", ".png"), ("a.p/ng", ""), ("a.thisistoolong", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_suffix_is_a_plain_one(name: str, suffix: str) -> None:
    assert suffix_of(name) == suffix


def upload(key: str, **more: Any) -> dict[str, Any]:
    return {"input": {"required": {"file": [["a.png"], {key: True, **more}]}}, "output": []}


IMAGE = [[], {"image_upload": True}]
INFO = ObjectInfo.parse(
    {
        "LoadImage": {
            "input": {"required": {"image": IMAGE}, "optional": {"note": ["STRING"]}},
            "output": ["IMAGE"],
        },
        "Sound": upload("audio_upload") | {"python_module": "custom_nodes.sound"},
        "Film": upload("video_upload"),
        "Any": upload("file_upload"),
        "Old": upload("image_folder"),
        "Remote": upload("remote"),
        "Custom": {
            "input": {"required": {"video": [["a.mp4"]]}},
            "output": [],
            "python_module": "custom_nodes.film",
        },
        "Sampler": {"input": {"required": {"name": [["euler"]]}}, "output": []},
        "Growing": {
            "input": {
                "required": {
                    "mode": [
                        "COMFY_DYNAMICCOMBO_V3",
                        {
                            "options": [
                                {"key": "file", "inputs": {"required": {"image": IMAGE}}}
                            ]
                        },
                    ]
                }
            },
            "output": [],
        },
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("class_type", "inputs", "found"),
    [
        ("LoadImage", {"image": "b.png", "note": "./c.png"}, {"image": {"image"}}),
        ("Sound", {"file": "x"}, {"file": {"audio", "video"}}),
        ("Film", {"file": "x"}, {"file": {"video", "image"}}),
        ("Any", {"file": "x"}, {"file": set()}),
        ("Old", {"file": "x"}, {"file": set()}),
        ("Remote", {"file": "x"}, {}),
        ("Custom", {"video": "./b.mp4"}, {"video": set()}),
        ("Custom", {"video": "b.mp4"}, {}),
        ("Custom", {"video": "a.mp4"}, {}),
        ("Sampler", {"name": "./euler"}, {}),
        ("Growing", {"mode": "file", "mode.image": "./x.png"}, {"mode.image": {"image"}}),
        ("Unknown", {"image": "./x.png"}, {}),
        ("Unknown", {"image": f"{FOLDER}/x", "n": 1}, {"image": set()}),
        ("LoadImage", {"n": 1}, {}),
    ],
)
def test_which_inputs_are_files(class_type: str, inputs: dict[str, Any], found: dict[str, set[str]]) -> None:
    graph = parse_graph({"1": {"class_type": class_type, "inputs": inputs}})
    assert {each.name: set(each.media) for each in file_inputs(graph, INFO)} == found


def test_without_a_node_list_the_core_classes_are_known() -> None:
    graph = parse_graph(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
            "2": {"class_type": "Custom", "inputs": {"image": "./a.png"}},
        }
    )
    (found,) = file_inputs(graph, None)
    assert (found.where, found.listed) == ("Node 1 (LoadImage), input 'image'", False)


def test_what_stands_in_the_folder_is_replaced_and_nothing_else() -> None:
    graph = {
        "1": {"class_type": "A", "inputs": {"x": f"{FOLDER}/a", "y": "a", "z": ["2", 0]}},
        "2": {"class_type": "B", "inputs": {"x": f"{FOLDER}/b"}},
        "3": {"class_type": "C", "inputs": 5},
        "4": {"class_type": "D"},
    }
    assert placed(graph) == {f"{FOLDER}/a", f"{FOLDER}/b"}
    changed = with_texts(graph, {f"{FOLDER}/a": "new"})
    assert changed == graph | {"1": {"class_type": "A", "inputs": {"x": "new", "y": "a", "z": ["2", 0]}}}
    assert graph["1"]["inputs"]["x"] == f"{FOLDER}/a"  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "head", "ends"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n", ".png"),
        ("a.png", b"GIF89a", ".gif"),
        ("", b"GIF89a", ".gif"),
        ("notes.txt", b"hello", ".txt"),
        ("model.ckpt7", b"\x00\x01", ".ckpt7"),
        ("", b"\x00\x01", ""),
    ],
)
def test_a_kept_file_ends_as_it_is_called_unless_its_bytes_say_otherwise(
    name: str, head: bytes, ends: str
) -> None:
    assert suffix_for(name, head) == ends
