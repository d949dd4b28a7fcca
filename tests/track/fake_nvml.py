"""NVML as `pynvml` gives it: the same names, the same errors, devices of our own making."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 2**30


@dataclass
class Gpu:
    """A device; a value that is an NVML error's number is raised."""

    uuid: str = "GPU-0"
    total: int = 80 * GIB
    used: int = 8 * GIB
    utilization: int = 50
    """Percent."""
    temperature: int = 60
    """°C."""
    power: int = 300_000
    """mW."""
    instances: dict[int, Gpu] = field(default_factory=dict)
    refuses: dict[str, int] = field(default_factory=dict)
    """Function to the NVML error that it gives."""


class Library:
    """Stands for the module ``pynvml``; calls are counted by name."""

    NVMLError = pynvml.NVMLError
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, *gpus: Gpu, missing: bool = False) -> None:
        self.gpus, self.missing = gpus, missing
        self.opened = False
        self.calls: dict[str, int] = {}

    def nvmlInit(self) -> None:
        if self.missing:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
        self.opened = True

    def nvmlShutdown(self) -> None:
        self.opened = False

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:
        return self._told(self.gpus[index], "nvmlDeviceGetHandleByIndex")

    def nvmlDeviceGetUUID(self, gpu: Gpu) -> str:
        return self._told(gpu, "nvmlDeviceGetUUID").uuid

    def nvmlDeviceGetMemoryInfo(self, gpu: Gpu) -> Any:
        gpu = self._told(gpu, "nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(total=gpu.total, used=gpu.used, free=gpu.total - gpu.used)

    def nvmlDeviceGetUtilizationRates(self, gpu: Gpu) -> Any:
        gpu = self._told(gpu, "nvmlDeviceGetUtilizationRates")
        return SimpleNamespace(gpu=gpu.utilization, memory=0)

    def nvmlDeviceGetTemperature(self, gpu: Gpu, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return self._told(gpu, "nvmlDeviceGetTemperature").temperature

    def nvmlDeviceGetPowerUsage(self, gpu: Gpu) -> int:
        return self._told(gpu, "nvmlDeviceGetPowerUsage").power

    def nvmlDeviceGetMigMode(self, gpu: Gpu) -> list[int]:
        return [int(bool(self._told(gpu, "nvmlDeviceGetMigMode").instances))] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Gpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Gpu, index: int) -> Gpu:
        if index not in gpu.instances:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return gpu.instances[index]

    def _told(self, gpu: Gpu, function: str) -> Gpu:
        assert self.opened, "the library is not initialized"
        self.calls[function] = self.calls.get(function, 0) + 1
        if error := gpu.refuses.get(function):
            raise pynvml.NVMLError(error)
        return gpu
