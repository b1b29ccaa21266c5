"""The engine's pure parts: the order of nodes, the signatures, the queue, the file names, the pixels."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_mcp.embedded import EngineConfig
from comfy_mcp.embedded.cache import dependency_order, signatures
from comfy_mcp.embedded.directories import Directories, OutsideDirectory, split_annotation
from comfy_mcp.embedded.nodes import NODE_TYPES
from comfy_mcp.embedded.nodes.base import NodeFailure
from comfy_mcp.embedded.nodes.blend import blend
from comfy_mcp.embedded.nodes.frames import Frames, check_batch, check_size
from comfy_mcp.embedded.nodes.scale import UPSCALE_METHODS, cut_center, resize
from comfy_mcp.embedded.prompts import Finished, PromptQueue, QueuedPrompt, SameNumberAndId
from comfy_mcp.embedded.schedule import Schedule
from tests.contract.graphs import Graph, node

NOON = datetime(2026, 3, 4, 12, 5, 6, tzinfo=UTC)


def _links(**edges: list[str]) -> Graph:
    """A graph by names: each node and the nodes that it is linked to."""
    return {
        name: node("Any", **{f"in{i}": [source, 0] for i, source in enumerate(sources)})
        for name, sources in edges.items()
    }


def _order(graph: Graph, outputs: list[str], cached: set[str] | None = None) -> list[str]:
    schedule = Schedule(graph, outputs, cached or set())
    order = []
    while (node_id := schedule.next()) is not None:
        order.append(node_id)
        schedule.done(node_id)
    return order


def test_an_output_that_is_ready_runs_before_more_is_made() -> None:
    graph = _links(a=[], b=[], save_b=["b"], c=["a"], save_c=["c"])
    assert _order(graph, ["save_b", "save_c"]) == ["b", "save_b", "a", "c", "save_c"]


def test_what_no_output_needs_does_not_run() -> None:
    assert _order(_links(a=[], b=["a"], save=["a"]), ["save"]) == ["a", "save"]


def test_what_is_behind_a_cached_node_does_not_run() -> None:
    graph = _links(a=[], b=["a"], c=["b"], save=["c"])
    assert _order(graph, ["save"], {"a", "b"}) == ["c", "save"]
    assert _order(graph, ["save"], set(graph)) == ["save"]


def test_every_node_comes_after_its_sources_even_in_a_deep_or_circular_graph() -> None:
    graph = _links(**{str(i): [str(i + 1)] for i in range(5000)}, **{"5000": []})
    assert dependency_order(graph) == [str(i) for i in range(5000, -1, -1)]
    assert set(dependency_order(_links(a=["b"], b=["a"], c=["missing"]))) == {"a", "b", "c"}


def _signatures(graph: Graph, base: Path) -> dict[str, str]:
    return signatures(graph, NODE_TYPES, Directories(base))


def _image(color: int = 0) -> dict[str, Any]:
    return node("EmptyImage", width=8, height=8, batch_size=1, color=color)


def test_a_signature_follows_from_class_literals_and_sources_only(tmp_path: Path) -> None:
    keys = _signatures(
        {
            "1": _image(),
            "2": {**_image(), "_meta": {"title": "another"}},
            "3": _image(color=1),
            "4": node("ImageInvert", image=["1", 0]),
            "5": node("ImageInvert", image=["2", 0]),
            "6": node("ImageInvert", image=["3", 0]),
        },
        tmp_path,
    )
    assert keys["1"] == keys["2"] != keys["3"]
    assert keys["4"] == keys["5"] != keys["6"]


def test_a_node_that_cannot_run_has_no_signature(tmp_path: Path) -> None:
    keys = _signatures(
        {
            "1": node("ImageInvert", image=["2", 0]),
            "2": node("ImageInvert", image=["1", 0]),
            "3": node("ImageInvert", image=["99", 0]),
            "4": node("LoadImage", image="not-there.png"),
        },
        tmp_path,
    )
    assert keys == {}


def test_the_signature_of_a_file_is_its_content(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    graph = {"1": node("LoadImage", image="a.png")}
    seen = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "input" / "a.png").write_bytes(content)
        seen.append(_signatures(graph, tmp_path)["1"])
    assert seen[0] == seen[2] != seen[1]


def _prompt(prompt_id: str, number: float) -> QueuedPrompt:
    return QueuedPrompt(number=number, prompt_id=prompt_id, prompt={}, extra_data={}, outputs=[])


def test_a_queue_gives_out_by_number_and_tells_of_every_change() -> None:
    changes = []
    queue = PromptQueue(10, lambda: changes.append(queue.remaining))
    for prompt_id, number in [("b", 2), ("a", 1), ("c", 3)]:
        queue.put(_prompt(prompt_id, number))
    taken = queue.take()
    assert taken is not None
    assert taken.prompt_id == "a"
    assert queue.delete("c")
    assert not queue.delete("a")
    queue.finish(taken, Finished(success=True))
    assert list(queue.history()) == ["a"]
    assert changes == [1, 2, 3, 3, 2, 1]


def test_twins_are_queued_and_reported() -> None:
    queue = PromptQueue(10, lambda: None)
    queue.put(_prompt("a", 1))
    with pytest.raises(SameNumberAndId):
        queue.put(_prompt("a", 1))
    assert queue.remaining == 2
    queue.delete("a")
    queue.delete("a")
    queue.put(_prompt("a", 1))


def test_an_interrupt_hits_what_runs_and_is_gone_with_it() -> None:
    queue = PromptQueue(10, lambda: None)
    queue.put(_prompt("a", 1))
    queue.put(_prompt("b", 2))
    assert not queue.interrupt_running()
    first = queue.take()
    assert first is not None
    assert not queue.interrupt_running("b")
    assert queue.interrupt_running("a")
    assert queue.interrupt.is_set()
    queue.finish(first, Finished(success=False))
    assert queue.take() is not None
    assert not queue.interrupt.is_set()


def test_closing_a_queue_wakes_its_worker() -> None:
    queue = PromptQueue(10, lambda: None)
    taken: list[QueuedPrompt | None] = []
    worker = threading.Thread(target=lambda: taken.append(queue.take()))
    worker.start()
    queue.close()
    worker.join(60)
    assert taken == [None]


@pytest.mark.parametrize(
    ("prefix", "subfolder", "filename"),
    [
        ("ComfyUI", "", "ComfyUI_00001_.png"),
        ("a/b/c", "a/b", "c_00001_.png"),
        ("a/../b", "", "b_00001_.png"),
        ("%year%-%month%-%day%/%hour%%minute%%second%", "2026-03-04", "120506_00001_.png"),
        ("%width%x%height%", "", "30x20_00001_.png"),
        ("", "", "._00001_.png"),
        ("a/", "", "a_00001_.png"),
    ],
)
def test_prefixes_become_file_names(tmp_path: Path, prefix: str, subfolder: str, filename: str) -> None:
    target = Directories(tmp_path).save_target("output", prefix, (30, 20), NOON)
    assert (target.subfolder, target.filename("png")) == (subfolder, filename)
    assert target.folder.is_dir()


@pytest.mark.parametrize("prefix", ["../x", "/tmp/x", "a/../../x"])
def test_a_prefix_cannot_leave_its_folder(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(OutsideDirectory):
        Directories(tmp_path).save_target("output", prefix, (1, 1), NOON)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "door").symlink_to(tmp_path / "secret")
    with pytest.raises(OutsideDirectory):
        Directories(tmp_path).inside(tmp_path / "output", "door")


def test_numbers_go_on_from_the_highest(tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    for name in ("x_00003_.png", "x_00010_.webp", "x_abc.png", "xy_00099_.png"):
        (output / name).touch()
    assert Directories(tmp_path).save_target("output", "x", (1, 1), NOON).counter == 11


def test_names_may_carry_their_folder() -> None:
    assert split_annotation("a b.png [temp]") == ("a b.png", "temp")
    assert split_annotation("a.png[output]") == ("a.png", "output")
    assert split_annotation("a.png [other]") == ("a.png [other]", None)


@pytest.mark.parametrize("mode", ["multiply", "screen", "overlay", "soft_light", "difference", "normal"])
def test_a_factor_of_zero_changes_nothing(mode: str) -> None:
    ramp = Image.linear_gradient("L").convert("RGB")
    upper = ramp.transpose(Image.Transpose.ROTATE_90)
    assert blend(ramp, upper, 0.0, mode).tobytes() == ramp.tobytes()


@pytest.mark.parametrize(
    ("mode", "formula"),
    [
        ("multiply", lambda a, b: a * b),
        ("screen", lambda a, b: 1 - (1 - a) * (1 - b)),
        ("overlay", lambda a, b: 2 * a * b if a <= 0.5 else 1 - 2 * (1 - a) * (1 - b)),
        ("difference", lambda a, b: max(a - b, 0.0)),
    ],
)
def test_blends_are_exact_over_all_pairs_of_levels(mode: str, formula: Any) -> None:
    lower = Image.linear_gradient("L")
    upper = lower.transpose(Image.Transpose.ROTATE_90)
    found = blend(lower, upper, 1.0, mode).tobytes()
    for index, (a, b) in enumerate(zip(lower.tobytes(), upper.tobytes(), strict=True)):
        assert abs(found[index] - int(255 * formula(a / 255, b / 255) + 0.001)) <= 1


@pytest.mark.parametrize("method", UPSCALE_METHODS)
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (40, 2), (16, 12)])
def test_a_plain_image_stays_plain_in_every_size(method: str, size: tuple[int, int]) -> None:
    image = Image.new("RGB", (16, 12), (10, 120, 250))
    assert resize(image, size, method).tobytes() == Image.new("RGB", size, (10, 120, 250)).tobytes()


def test_the_middle_is_kept() -> None:
    assert cut_center(Image.new("L", (100, 50)), 1.0).size == (50, 50)
    assert cut_center(Image.new("L", (50, 100)), 2.0).size == (50, 24)
    assert cut_center(Image.new("L", (64, 64)), 1.0).size == (64, 64)


def test_a_repeated_picture_counts_and_is_computed_once() -> None:
    frame = Image.new("L", (10, 10))
    images = Frames((frame,) * 1000)
    assert images.pixels == 100
    calls: list[Image.Image] = []

    def copy(image: Image.Image) -> Image.Image:
        calls.append(image)
        return image.copy()

    changed = images.each(copy)
    assert len(calls) == 1
    assert len(changed.frames) == 1000
    check_batch(images, 100)


@pytest.mark.parametrize(("mode", "transparent"), [("RGBA", True), ("LA", True), ("P", True), ("L", False)])
def test_a_mask_is_read_from_every_kind_of_transparency(mode: str, transparent: bool, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    image = Image.new("RGBA", (4, 4), (9, 9, 9, 0)).convert(mode)
    if mode == "P":
        image.save(tmp_path / "input" / "a.png", transparency=0)
    else:
        image.save(tmp_path / "input" / "a.png")
    context = FakeContext(tmp_path)
    _, mask = NODE_TYPES["LoadImage"].run(context, {"image": "a.png"}).values
    assert mask.size == ((4, 4) if transparent else (64, 64))
    assert mask.frames[0].getpixel((0, 0)) == (255 if transparent else 0)


def test_the_pictures_of_an_animation_are_a_batch(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    first, second = Image.new("RGB", (4, 4), (1, 2, 3)), Image.new("RGB", (4, 4), (200, 2, 3))
    first.save(tmp_path / "input" / "a.webp", save_all=True, append_images=[second], lossless=True)
    images, masks = NODE_TYPES["LoadImage"].run(FakeContext(tmp_path), {"image": "a.webp"}).values
    assert [frame.getpixel((0, 0)) for frame in images.frames] == [(1, 2, 3), (200, 2, 3)]
    assert len(masks.frames) == 2


def test_a_file_that_is_no_image_fails_the_node(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "a.png").write_bytes(b"no image")
    with pytest.raises(NodeFailure) as caught:
        NODE_TYPES["LoadImage"].run(FakeContext(tmp_path), {"image": "a.png"})
    assert caught.value.kind == "UnidentifiedImageError"


class FakeContext:
    """What a node may use, without an engine."""

    def __init__(self, base: Path) -> None:
        self.directories = Directories(base)
        self.config = EngineConfig(base_directory=base)
        self.temp_suffix = "abcde"
        self.just_freed = False
        self.prompt: Mapping[str, Any] = {}
        self.extra_pnginfo: Mapping[str, Any] | None = None

    def progress(self, value: int, maximum: int, preview: Image.Image | None = None) -> None:
        raise AssertionError("this node reports no steps")

    def wait(self, seconds: float) -> None:
        raise AssertionError("this node takes no time")

    def load(self, model: str, seconds: float) -> None:
        raise AssertionError("this node has no model")


def test_sizes_are_checked() -> None:
    with pytest.raises(NodeFailure):
        check_size(0, 5, 100)
    with pytest.raises(NodeFailure):
        check_size(11, 10, 100)
    with pytest.raises(NodeFailure):
        Frames(())
    with pytest.raises(NodeFailure):
        check_batch(Frames((Image.new("L", (10, 11)),)), 100)
