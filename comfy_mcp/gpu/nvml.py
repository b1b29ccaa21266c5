"""Readings of the local NVIDIA driver. Everything here blocks, so it belongs in a thread.

The module `pynvml` comes from nvidia-ml-py. It takes 20 ms and 2.3 MB, so it is imported only where the
driver's library can be loaded.
"""

import sys
from dataclasses import dataclass
from typing import Any

from comfy_mcp.domain.gpu import GoneGpu, GpuDevice, GpuState
from comfy_mcp.gpu.nvml_device import Known, read_device, say

LIBRARY = "libnvidia-ml.so.1"
MAX_DEVICES = 64
"""The most that are asked for, whatever a driver says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlReading:
    """The devices, and in `reason` why there are none or which of them do not answer. `gone` are those that
    an earlier reading of this session had."""

    devices: tuple[GpuDevice, ...]
    reason: str | None = None
    gone: tuple[GoneGpu, ...] = ()


class Nvml:
    """One NVML session, opened by the first reading and reopened after a fault. Not thread-safe."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._library: Any = None
        self._places: dict[int, Known] = {}
        self._seen: dict[str, str] = {}

    def read(self) -> NvmlReading:
        """All devices now. Never raises on account of the driver: a fault is a reason."""
        if not self._has_library():
            return self._nothing(f"no driver library ({LIBRARY})")
        try:
            import pynvml
        except ImportError:
            return self._nothing("nvidia-ml-py is not installed")
        try:
            if self._nvml is None:
                pynvml.nvmlInit()
                self._nvml = pynvml
            count = min(pynvml.nvmlDeviceGetCount(), MAX_DEVICES)
        except (pynvml.NVMLError, OSError, AttributeError) as error:
            self.close()
            return self._nothing(say(error))
        devices = tuple(read_device(pynvml, index, self._places.get(index)) for index in range(count))
        self._remember(devices)
        faults = [f"NVML: GPU {each.index}: {each.fault}" for each in devices if each.fault is not None]
        if faults:
            self.close()  # a lost GPU stays lost in this session, even when it comes back
        if not devices:
            return self._nothing("the driver sees no GPU")
        return NvmlReading(devices=devices, reason="; ".join(faults) or None, gone=self._gone(devices))

    def close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            try:
                nvml.nvmlShutdown()
            except (nvml.NVMLError, OSError):
                return  # it is closed, or there is no driver any more

    def _has_library(self) -> bool:
        if self._library is None and sys.platform != "win32":  # there pynvml knows where to look
            import ctypes

            try:
                self._library = ctypes.CDLL(LIBRARY)
            except OSError:
                return False
        return True

    def _nothing(self, reason: str) -> NvmlReading:
        return NvmlReading(devices=(), reason=f"NVML: {reason}", gone=self._gone(()))

    def _remember(self, devices: tuple[GpuDevice, ...]) -> None:
        for device in devices:
            if device.state is GpuState.OK:
                self._places[device.index] = Known(name=device.name, uuid=device.uuid)
                if device.uuid is not None and (device.uuid in self._seen or len(self._seen) < MAX_DEVICES):
                    self._seen[device.uuid] = device.name

    def _gone(self, devices: tuple[GpuDevice, ...]) -> tuple[GoneGpu, ...]:
        here = {device.uuid for device in devices}
        return tuple(GoneGpu(name=name, uuid=uuid) for uuid, name in self._seen.items() if uuid not in here)
