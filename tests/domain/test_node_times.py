"""What the duration of a node depends on."""

from typing import Any

import pytest

from comfy_mcp.domain.graph import parse_graph
from comfy_mcp.domain.node_times import KEY_CHARS, LOOKED_AT, WORKERS, NodeTimes, keys_of, times_of


def test_steps_and_sizes_are_found_behind_links() -> None:
    graph = parse_graph(
        {
            "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux.SAFETENSORS"}},
            "2": {"class_type": "EmptyVideo", "inputs": {"width": 500, "height": 400, "length": 25}},
            "3": {"class_type": "BasicScheduler", "inputs": {"model": ["1", 0], "steps": 12}},
            "4": {
                "class_type": "SamplerCustomAdvanced",
                "inputs": {"sigmas": ["3", 0], "latent_image": ["2", 0], "guider": ["3", 0]},
            },
            "5": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
            "6": {"class_type": "VAELoader", "inputs": {"vae_name": "a.pt"}},
            "7": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["6", 0]}},
        }
    )
    times = times_of(graph)
    sampler = times["4"]
    assert (sampler.steps, sampler.units) == (12, 5.0)
    assert sampler.pace == "SamplerCustomAdvanced|flux.SAFETENSORS|pace"
    assert times["5"].keys == ("KSamplerSelect",)
    assert times["6"].keys == ("VAELoader",)
    assert times["7"].keys == ("VAEDecode", "VAEDecode|a.pt|5")


@pytest.mark.parametrize("value", [True, "20", 0, -1, 10**12, None])
def test_a_value_that_is_no_number_of_steps_is_none(value: object) -> None:
    graph = parse_graph({"1": {"class_type": "KSampler", "inputs": {"steps": value}}})
    times = times_of(graph)["1"]
    assert (times.steps, times.units) == (None, 1.0)
    assert times.expected({times.pace or "": 1.0, times.start or "": 1.0}, cold=False) is None
    assert times.observed(100, 10, cold=False) == {"KSampler": 100}


@pytest.mark.parametrize(
    ("scale_by", "units"), [(1.5, 2.25), (0.5, 0.25), (None, 1.0), ("2", 1.0), (1e8, 1e4), (1e-200, 1e-6)]
)
def test_a_second_pass_has_the_pixels_that_it_was_scaled_to(scale_by: object, units: float) -> None:
    graph = parse_graph(
        {
            "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 1_000, "height": 1_000}},
            "2": {"class_type": "KSampler", "inputs": {"latent_image": ["1", 0], "steps": 9}},
            "3": {"class_type": "LatentUpscaleBy", "inputs": {"samples": ["2", 0], "scale_by": scale_by}},
            "4": {"class_type": "KSampler", "inputs": {"latent_image": ["3", 0], "steps": 5}},
        }
    )
    times = times_of(graph)
    assert times["2"].units == 1.0
    assert times["4"].units == pytest.approx(units)


def test_what_was_not_observed_is_not_known() -> None:
    times = NodeTimes(plain="K", pace="K|pace", start="K|start", cold="K|cold", steps=10, units=2)
    assert times.expected({"K": 5.0, "K|pace": 1.0, "K|cold": 7.0}, cold=False) is None
    assert times.expected({"K": 5.0, "K|pace": 1.0, "K|cold": 7.0}, cold=True) == 27
    assert times.observed(50, None, cold=True) == {"K": 50}
    assert times.observed(50, 4, cold=True) == {"K": 50, "K|pace": 2, "K|cold": 10}
    assert times.observed(30, 4, cold=False)["K|start"] == 0


def test_the_work_has_a_bound() -> None:
    loop: dict[str, Any] = {
        str(n): {"class_type": "KSampler", "inputs": {"x": [str((n + 1) % 200), 0]}} for n in range(200)
    }
    loop["150"]["inputs"]["steps"] = 5
    loop["200"] = {"class_type": "K" * 1_000, "inputs": {"x": ["nowhere", 0]}}
    times = times_of(parse_graph(loop))
    assert sum(each.pace is not None for each in times.values()) == WORKERS
    assert times["0"].steps is None  # it is further away than is looked
    assert 150 - LOOKED_AT > 0
    assert max(len(key) for each in times.values() for key in each.keys) <= KEY_CHARS


def test_nodes_of_one_class_share_what_is_known_of_them() -> None:
    """A claim asks for the keys of all nodes on the event loop: 50,000 of one class are one."""
    chain = {str(n): {"class_type": "PreviewAny", "inputs": {"source": [str(n - 1), 0]}} for n in range(500)}
    graph = parse_graph(chain | {"k": {"class_type": "KSampler", "inputs": {"steps": 4}}})
    times = times_of(graph)
    assert len({id(each) for each in times.values()}) == 2
    assert keys_of(times) == {"PreviewAny", *times["k"].keys}
