"""What NVIDIA's management library says of the GPUs that this process may use.

https://docs.nvidia.com/deploy/nvml-api/ — what a device does not tell, or not to us, is left out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

GIB = 2**30

_log = logging.getLogger(__name__)


class NoGpu(RuntimeError):
    """There is no GPU to watch; says why."""


class Device(NamedTuple):
    """A GPU, or a MIG instance of one."""

    name: str
    """``0``, or ``0.2`` for instance 2 of GPU 0."""
    handle: Any
    whole: bool
    """Whether it has a temperature and a power of its own."""


class Nvml:
    """Readings of the visible GPUs. Not for several threads.

    Args:
        library: the module ``pynvml``, or what stands for it.
        visible: as CUDA_VISIBLE_DEVICES; None: all.

    Raises:
        NoGpu: no driver, no GPU, or none visible.
    """

    def __init__(self, library: Any = None, visible: str | None = None) -> None:
        if library is None:
            import pynvml

            library = pynvml
        self._nvml, self._untold = library, set[tuple[str, str]]()
        try:
            library.nvmlInit()
        except library.NVMLError as error:
            raise NoGpu(str(error)) from None
        self.devices = [d for d in self._all() if _seen(d, visible, self._uuid(d))]
        if not self.devices:
            self.close()
            raise NoGpu("none is visible")

    @classmethod
    def of_this_process(cls, library: Any = None) -> Nvml:
        """The GPUs that CUDA_VISIBLE_DEVICES leaves. Raises NoGpu."""
        return cls(library, os.environ.get("CUDA_VISIBLE_DEVICES"))

    def usage(self) -> dict[str, float]:
        """``gpu/N/memory_used`` (GiB), ``memory_share`` and ``utilization`` (0 to 1)."""
        numbers: dict[str, float] = {}
        for device in self.devices:
            place = f"gpu/{device.name}"
            if memory := self._ask(device, "nvmlDeviceGetMemoryInfo"):
                numbers[f"{place}/memory_used"] = memory.used / GIB
                if memory.total:
                    numbers[f"{place}/memory_share"] = memory.used / memory.total
            if rates := self._ask(device, "nvmlDeviceGetUtilizationRates"):
                numbers[f"{place}/utilization"] = rates.gpu / 100
        return numbers

    def totals(self) -> list[int]:
        """Bytes of memory of each device that tells them."""
        told = [self._ask(device, "nvmlDeviceGetMemoryInfo") for device in self.devices]
        return [memory.total for memory in told if memory]

    def heat(self) -> dict[str, float]:
        """``gpu/N/temperature`` (°C) and ``gpu/N/power`` (W)."""
        numbers: dict[str, float] = {}
        sensor = self._nvml.NVML_TEMPERATURE_GPU
        for device in self.devices:
            if not device.whole:
                continue
            celsius = self._ask(device, "nvmlDeviceGetTemperature", sensor)
            milliwatts = self._ask(device, "nvmlDeviceGetPowerUsage")
            if celsius is not None:
                numbers[f"gpu/{device.name}/temperature"] = float(celsius)
            if milliwatts is not None:
                numbers[f"gpu/{device.name}/power"] = milliwatts / 1000
        return numbers

    def close(self) -> None:
        """Leave the library."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError as error:
            _log.debug("NVML: %s", error)

    # -- devices -----------------------------------------------------------------------------

    def _all(self) -> Iterator[Device]:
        for index in range(self._try(self._nvml.nvmlDeviceGetCount) or 0):
            handle = self._try(self._nvml.nvmlDeviceGetHandleByIndex, index)
            if handle is None:
                continue
            whole = Device(str(index), handle, whole=True)
            yield whole
            yield from self._instances(whole)

    def _instances(self, gpu: Device) -> Iterator[Device]:
        """The MIG instances that a GPU is divided into."""
        mode = self._try(self._nvml.nvmlDeviceGetMigMode, gpu.handle)
        if not mode or not mode[0]:
            return
        most = self._try(self._nvml.nvmlDeviceGetMaxMigDeviceCount, gpu.handle) or 0
        for index in range(most):
            ask = self._nvml.nvmlDeviceGetMigDeviceHandleByIndex
            handle = self._try(ask, gpu.handle, index)
            if handle is not None:  # their numbers have gaps
                yield Device(f"{gpu.name}.{index}", handle, whole=False)

    def _uuid(self, device: Device) -> str:
        found = self._try(self._nvml.nvmlDeviceGetUUID, device.handle) or ""
        return found.decode() if isinstance(found, bytes) else str(found)

    # -- questions ---------------------------------------------------------------------------

    def _try(self, ask: Callable[..., Any], *args: Any) -> Any:
        try:
            return ask(*args)
        except self._nvml.NVMLError:
            return None

    def _ask(self, device: Device, function: str, *args: Any) -> Any:
        """An answer, or None where a device has none; said once."""
        try:
            return getattr(self._nvml, function)(device.handle, *args)
        except self._nvml.NVMLError as error:
            if (device.name, function) not in self._untold:
                self._untold.add((device.name, function))
                _log.info("GPU %s: %s: %s", device.name, function, error)
            return None


def _seen(device: Device, visible: str | None, uuid: str) -> bool:
    """Whether CUDA sees a device; it may be named by number or by the beginning of its UUID."""
    if visible is None:
        return True
    for name in (part.strip() for part in visible.split(",")):
        if name.isdigit():
            # An instance of a GPU that is named by its number is seen with it.
            if name == device.name.partition(".")[0]:
                return True
        elif name and uuid.startswith(name):
            return True
    return False
