"""The driver's answers, from a driver library compiled here and loaded as the real one would be."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
ROOT = Path(__file__).parents[2]
MIB, GIB = 2**20, 2**30

# One process per part: pynvml keeps the library that it loaded first.
READ_THREE_TIMES = """
import json, sys, warnings
warnings.simplefilter("error")
from dataclasses import asdict
from comfy_mcp.gpu.nvml import Nvml
nvml = Nvml()
readings = [asdict(nvml.read()) for _ in range(3)]
nvml.close()
nvml.close()
json.dump({"readings": readings, "pynvml": "pynvml" in sys.modules}, sys.stdout)
"""

UNKNOWN: dict[str, Any] = {
    "state": "ok",
    "fault": None,
    "utilization_percent": None,
    "temperature_limit_celsius": None,
    "power_watts": None,
    "power_limit_watts": None,
    "graphics_clock_mhz": None,
    "memory_clock_mhz": None,
    "throttle_reasons": None,
    "ecc_corrected": None,
    "ecc_uncorrected": None,
    "processes": None,
    "process_count": None,
    "mig_devices": [],
    "engine": None,
}


def compiled(folder: Path, *options: str) -> Path:
    """The folder with the compiled library. Needs a C compiler (gcc or cc)."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, "the GPU tests compile a small C file: install gcc"
    target = folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", *options, "-o", str(target), str(SOURCE)]
    subprocess.run([*command, "-Wl,-soname,libnvidia-ml.so.1"], check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that lacks most functions, the one that puts errors into words included."""
    return compiled(tmp_path_factory.mktemp("half"), "-DHALF")


def played(library: Path, part: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": part}
    return subprocess.run(
        [sys.executable, "-c", READ_THREE_TIMES],
        env=environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )


def readings_of(library: Path, part: str) -> list[dict[str, Any]]:
    answer: dict[str, Any] = json.loads(played(library, part).stdout)
    readings: list[dict[str, Any]] = answer["readings"]
    return readings


def reading_of(library: Path, part: str) -> dict[str, Any]:
    first, *again = readings_of(library, part)
    assert again == [first, first]
    return first


def names(reading: Mapping[str, Any]) -> Sequence[str]:
    return [device["name"] for device in reading["devices"]]


def test_two_gpus_with_what_each_of_them_knows(library: Path) -> None:
    reading = reading_of(library, "two")
    assert (reading["reason"], reading["gone"]) == (None, [])
    assert reading["devices"] == [
        UNKNOWN
        | {
            "index": 0,
            "name": "Fake A",
            "uuid": "GPU-aaaa",
            "utilization_percent": 87.0,
            "memory_used_bytes": 5 * GIB,
            "memory_total_bytes": 24 * GIB,
            "temperature_celsius": 65.0,
            "temperature_limit_celsius": 97.0,
            "power_watts": 250.5,
            "graphics_clock_mhz": 2520,
            "memory_clock_mhz": 10501,
            "throttle_reasons": ["gpu_idle"],
            "ecc_corrected": 7,
            "ecc_uncorrected": 1,
            "processes": [{"pid": 1001, "memory_bytes": 3 * MIB}, {"pid": 1000, "memory_bytes": None}],
            "process_count": 2,
        },
        UNKNOWN
        | {
            "index": 1,
            "name": "Fake B",
            "uuid": "GPU-bbbb",
            "memory_used_bytes": 0,
            "memory_total_bytes": 24 * GIB,
            "temperature_celsius": 30.0,
        },
    ]


def test_mig_devices_are_shown_under_their_gpu(library: Path) -> None:
    whole, cut = reading_of(library, "mig")["devices"]
    assert whole["mig_devices"] == []
    assert (cut["name"], cut["state"], cut["memory_total_bytes"]) == ("Fake B", "ok", None)
    assert cut["mig_devices"] == [
        {
            "index": index,
            "name": "Fake B MIG 1g.5gb",
            "uuid": f"MIG-{index + 1:04}",
            "memory_used_bytes": (index + 1) * GIB,
            "memory_total_bytes": 5 * GIB,
        }
        for index in (0, 2)
    ]


def test_a_thousand_processes_are_counted_and_the_greatest_shown(library: Path) -> None:
    device = reading_of(library, "crowd")["devices"][0]
    assert device["process_count"] == 1000
    assert len(device["processes"]) == 20
    assert device["processes"][0] == {"pid": 1999, "memory_bytes": 999 * MIB}
    sizes = [each["memory_bytes"] for each in device["processes"]]
    assert sizes == sorted(sizes, reverse=True)


def test_processes_that_come_faster_than_they_are_listed_are_unknown(library: Path) -> None:
    device = reading_of(library, "grows")["devices"][0]
    assert (device["processes"], device["process_count"]) == (None, None)
    assert device["state"] == "ok"


def test_reasons_for_low_clocks_have_names_and_an_unknown_one_is_other(library: Path) -> None:
    first, second = reading_of(library, "slowed")["devices"]
    assert first["throttle_reasons"] == ["sw_power_cap", "sw_thermal", "hw_thermal", "other"]
    assert second["throttle_reasons"] is None


@pytest.mark.parametrize(
    ("part", "state", "fault"),
    [
        ("lost", "lost", "GPU is lost"),
        ("lost-in-use", "lost", "GPU is lost"),
        ("reset", "reset_required", "GPU requires restart"),
        ("odd-error", "failed", "some ?[31merror"),
    ],
)
def test_a_gpu_that_does_not_work_has_a_state_beside_the_other(
    library: Path, part: str, state: str, fault: str
) -> None:
    reading = reading_of(library, part)
    good, broken = reading["devices"]
    assert (good["name"], good["state"]) == ("Fake A", "ok")
    assert (broken["index"], broken["name"]) == (1, "GPU 1")
    assert (broken["state"], broken["fault"]) == (state, fault)
    assert broken["memory_total_bytes"] is None
    assert reading["reason"] == f"NVML: GPU 1: {fault}"


def test_a_gpu_that_gets_lost_keeps_its_name(library: Path) -> None:
    first, second, third = readings_of(library, "lost-later")
    assert names(first) == ["Fake A", "Fake B"]
    assert second == third
    assert second["devices"][1]["name"] == "Fake B"
    assert (second["devices"][1]["uuid"], second["devices"][1]["state"]) == ("GPU-bbbb", "lost")
    assert second["gone"] == []


def test_a_gpu_that_the_driver_shows_no_more_is_gone(library: Path) -> None:
    first, second, third = readings_of(library, "shrinks")
    assert first["gone"] == []
    assert second == third
    assert names(second) == ["Fake A"]
    assert second["gone"] == [{"name": "Fake B", "uuid": "GPU-bbbb"}]


def test_a_driver_that_dies_between_two_samples_comes_back(library: Path) -> None:
    first, second, third = readings_of(library, "dies-between")
    assert second["devices"] == []
    assert second["reason"] == "NVML: Unknown Error"
    assert [gone["uuid"] for gone in second["gone"]] == ["GPU-aaaa", "GPU-bbbb"]
    assert third == first


def test_a_driver_that_resets_within_a_sample_is_opened_anew(library: Path) -> None:
    first, second, third = readings_of(library, "driver-resets")
    assert (first["devices"][1]["state"], first["devices"][1]["fault"]) == ("failed", "Uninitialized")
    assert names(second) == ["Fake A", "Fake B"]
    assert second == third
    assert second["reason"] is None


def test_after_a_lost_gpu_the_session_is_opened_anew(library: Path) -> None:
    assert played(library, "lost").stderr.splitlines() == ["sessions open: 0"] * 3
    assert played(library, "two").stderr.splitlines() == ["sessions open: 0"]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("none", "NVML: the driver sees no GPU"),
        ("no-driver", "NVML: Driver Not Loaded"),
        ("mismatch", "NVML: RM has detected an NVML/RM version mismatch."),
        ("dies-later", "NVML: GPU is lost"),
    ],
)
def test_a_driver_without_gpus_is_a_reason(library: Path, part: str, reason: str) -> None:
    assert reading_of(library, part) == {"devices": [], "reason": reason, "gone": []}


def test_half_a_driver_shows_what_it_has(half: Path) -> None:
    first, second = reading_of(half, "two")["devices"]
    assert first == UNKNOWN | {
        "index": 0,
        "name": "Fake A",
        "uuid": "GPU-aaaa",
        "memory_used_bytes": 5 * GIB,
        "memory_total_bytes": 24 * GIB,
        "temperature_celsius": None,
    }
    assert second["name"] == "Fake B"


def test_an_error_that_half_a_driver_can_not_put_into_words_has_its_number(half: Path) -> None:
    assert reading_of(half, "odd-error")["devices"][1]["fault"] == "NVML Error with code 4242"


def test_numbers_that_can_not_be_are_not_believed(library: Path) -> None:
    devices = reading_of(library, "liar")["devices"]
    assert len(devices) == 64
    assert (devices[0]["state"], devices[0]["utilization_percent"]) == ("ok", None)
    memory = [(each["memory_total_bytes"], each["memory_used_bytes"]) for each in devices[:2]]
    assert memory == [(24 * GIB, None), (None, None)], "no store and no client takes 2⁶⁴ - 1"
    assert (devices[2]["state"], devices[2]["fault"]) == ("failed", "Invalid Argument")


def test_a_name_that_is_no_text_is_replaced_and_an_odd_one_made_plain(library: Path) -> None:
    assert names(reading_of(library, "odd-name")) == ["GPU 0", 'A?[2J?B?"<b>']


def test_a_library_that_does_not_load_is_a_reason_and_costs_no_import(tmp_path: Path, library: Path) -> None:
    """A broken file in front of the search path: the loader goes no further, on any machine."""
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    nothing = {"devices": [], "reason": "NVML: no driver library (libnvidia-ml.so.1)", "gone": []}
    assert reading_of(tmp_path, "two") == nothing
    assert json.loads(played(tmp_path, "two").stdout)["pynvml"] is False
    assert json.loads(played(library, "two").stdout)["pynvml"] is True
