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

# One process per part: pynvml keeps the library that it loaded first.
READ_TWICE = """
import json, sys, warnings
warnings.simplefilter("error")
from dataclasses import asdict
from comfy_mcp.gpu.nvml import Nvml
nvml = Nvml()
readings = [asdict(nvml.read()) for _ in range(2)]
nvml.close()
nvml.close()
json.dump(readings, sys.stdout)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the compiled library. Needs a C compiler (gcc or cc)."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, "the GPU tests compile a small C file: install gcc"
    folder = tmp_path_factory.mktemp("nvml")
    target = folder / "libnvidia-ml.so.1"
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(target), str(SOURCE)]
    subprocess.run([*command, "-Wl,-soname,libnvidia-ml.so.1"], check=True, timeout=60)
    return folder


def played(library: Path, part: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": part}
    return subprocess.run(
        [sys.executable, "-c", READ_TWICE],
        env=environment,
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )


def reading_of(library: Path, part: str) -> Mapping[str, Any]:
    first, again = json.loads(played(library, part).stdout)
    assert first == again
    reading: Mapping[str, Any] = first
    return reading


def names(reading: Mapping[str, Any]) -> Sequence[str]:
    return [device["name"] for device in reading["devices"]]


def test_two_gpus_with_what_each_of_them_knows(library: Path) -> None:
    reading = reading_of(library, "two")
    assert reading["reason"] is None
    assert reading["devices"] == [
        {
            "index": 0,
            "name": "Fake A",
            "uuid": "GPU-aaaa",
            "utilization_percent": 87.0,
            "memory_used_bytes": 5 * 2**30,
            "memory_total_bytes": 24 * 2**30,
            "temperature_celsius": 65.0,
            "power_watts": 250.5,
            "power_limit_watts": None,
            "engine": None,
        },
        {
            "index": 1,
            "name": "Fake B",
            "uuid": "GPU-bbbb",
            "utilization_percent": None,
            "memory_used_bytes": 0,
            "memory_total_bytes": 24 * 2**30,
            "temperature_celsius": 30.0,
            "power_watts": None,
            "power_limit_watts": None,
            "engine": None,
        },
    ]


@pytest.mark.parametrize("part", ["lost", "lost-in-use"])
def test_a_lost_gpu_is_shown_as_lost_beside_the_other(library: Path, part: str) -> None:
    reading = reading_of(library, part)
    assert names(reading) == ["Fake A", "GPU 1 (GPU is lost)"]
    assert reading["reason"] == "NVML: GPU 1: GPU is lost"
    assert reading["devices"][1]["memory_total_bytes"] is None


def test_after_a_lost_gpu_the_session_is_opened_anew(library: Path) -> None:
    assert played(library, "lost").stderr.splitlines() == ["sessions open: 0"] * 2
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
    assert reading_of(library, part) == {"devices": [], "reason": reason}


def test_a_name_that_is_no_text_is_replaced(library: Path) -> None:
    assert names(reading_of(library, "odd-name")) == ["GPU 0", "GPU 1"]


def test_a_library_that_does_not_load_is_a_reason(tmp_path: Path) -> None:
    """A broken file in front of the search path: the loader goes no further, on any machine."""
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    assert reading_of(tmp_path, "two") == {"devices": [], "reason": "NVML: NVML Shared Library Not Found"}
