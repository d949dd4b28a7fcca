"""Readings and alerts of GPUs, over a library that stands for NVML."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pynvml
import pytest
from track.fake_nvml import GIB, Gpu, Library

from booster_ray.config.models import Monitor as Settings
from booster_ray.runtime.nvml import NoGpu, Nvml
from booster_ray.track.monitor import Alarm, HostReadings, Monitor

SPARSE = Settings(usage_every=1000, heat_every=5000)


def wait_for(condition: Callable[[], Any]) -> Any:
    """Until the monitor's thread has done it."""
    deadline = time.monotonic() + 60
    while not (value := condition()):
        assert time.monotonic() < deadline, "the monitor has not done it"
        time.sleep(0.005)
    return value


Watching = Callable[..., tuple[Monitor, "Records", list[str]]]


class Records(list[dict[str, Any]]):
    """What a monitor has recorded."""

    @property
    def alerts(self) -> list[str]:
        return [row["alert"] for row in self if "alert" in row]

    @property
    def newest(self) -> dict[str, float]:
        rows = [row for row in list(self) if "alert" not in row]
        return {name: number for row in rows for name, number in row.items()}


@pytest.fixture
def watching() -> Iterator[Watching]:
    made: list[Monitor] = []

    def make(library: Library, settings: Settings = SPARSE) -> tuple[Monitor, Records, list[str]]:
        records, told = Records(), list[str]()
        made.append(Monitor(settings, records.append, told.append, lambda: Nvml(library)))
        return made[-1], records, told

    yield make
    for monitor in made:
        monitor.close()


def test_every_visible_gpu_is_read() -> None:
    library = Library(Gpu(), Gpu(uuid="GPU-1", used=40 * GIB, temperature=70, utilization=99))
    gpus = Nvml(library)
    assert gpus.usage() == {
        "gpu/0/memory_used": 8.0, "gpu/0/memory_share": 0.1, "gpu/0/utilization": 0.5,
        "gpu/1/memory_used": 40.0, "gpu/1/memory_share": 0.5, "gpu/1/utilization": 0.99,
    }  # fmt: skip
    assert gpus.heat() == {
        "gpu/0/temperature": 60.0, "gpu/0/power": 300.0,
        "gpu/1/temperature": 70.0, "gpu/1/power": 300.0,
    }  # fmt: skip
    gpus.close()
    assert not library.opened


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, ["0", "1", "2", "2.0", "2.4"]),
        ("1", ["1"]),
        ("1, 0", ["0", "1"]),
        ("2", ["2", "2.0", "2.4"]),
        ("GPU-bb", ["1"]),
        ("MIG-4", ["2.4"]),
        ("GPU-aa,MIG-0", ["0", "2.0"]),
    ],
)
def test_only_what_cuda_sees_is_read(visible: str | None, seen: list[str]) -> None:
    divided = Gpu("GPU-cc", instances={0: Gpu("MIG-0", 10 * GIB), 4: Gpu("MIG-4", 10 * GIB)})
    library = Library(Gpu("GPU-aa"), Gpu("GPU-bb"), divided)
    assert [d.name for d in Nvml(library, visible).devices] == seen


@pytest.mark.parametrize("visible", ["", "-1", "7", "GPU-zz"])
def test_no_visible_gpu_is_no_gpu(visible: str) -> None:
    library = Library(Gpu("GPU-aa"))
    with pytest.raises(NoGpu, match="none is visible"):
        Nvml(library, visible)
    assert not library.opened


def test_the_environment_says_what_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [d.name for d in Nvml.of_this_process(Library(Gpu(), Gpu())).devices] == ["1"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert len(Nvml.of_this_process(Library(Gpu(), Gpu())).devices) == 2


def test_mig_instances_tell_their_memory_and_no_more() -> None:
    refuses = {
        "nvmlDeviceGetUtilizationRates": pynvml.NVML_ERROR_NOT_SUPPORTED,
        "nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_NO_PERMISSION,
    }
    small = Gpu(
        "MIG-1", 10 * GIB, 5 * GIB,
        refuses={"nvmlDeviceGetUtilizationRates": pynvml.NVML_ERROR_NOT_SUPPORTED},
    )  # fmt: skip
    gpus = Nvml(Library(Gpu(instances={3: small}, refuses=refuses)))
    assert gpus.usage() == {"gpu/0.3/memory_used": 5.0, "gpu/0.3/memory_share": 0.5}
    assert gpus.heat() == {"gpu/0/temperature": 60.0, "gpu/0/power": 300.0}


@pytest.mark.parametrize(
    "error",
    [
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_UNKNOWN,
    ],
)
def test_what_a_device_does_not_tell_is_left_out(
    error: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "booster_ray.runtime.nvml")
    silent = Gpu(
        refuses=dict.fromkeys(
            ("nvmlDeviceGetMigMode", "nvmlDeviceGetUUID", "nvmlDeviceGetPowerUsage",
             "nvmlDeviceGetUtilizationRates"),
            error,
        )
    )  # fmt: skip
    gpus = Nvml(Library(silent, Gpu(refuses={"nvmlDeviceGetHandleByIndex": error})))
    for _ in range(3):
        assert gpus.usage().keys() == {"gpu/0/memory_used", "gpu/0/memory_share"}
        assert gpus.heat() == {"gpu/0/temperature": 60.0}
    assert [r.message.split(":")[1].strip() for r in caplog.records] == [
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetPowerUsage",
    ]


def test_readings_follow_the_steps(watching: Watching) -> None:
    library = Library(Gpu())
    monitor, records, _ = watching(library)
    memory, power = "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetPowerUsage"
    monitor.observe(0)
    wait_for(lambda: len(records) == 1)
    for steps, usage, heat in (
        (400, 1, 1), (999, 1, 1), (1000, 2, 1), (1001, 2, 1), (3500, 3, 1), (5000, 4, 2),
        (30_000, 5, 3),
    ):  # fmt: skip
        monitor.observe(steps)
        wait_for(lambda n=usage: len(records) >= n)
        assert (library.calls[memory], library.calls[power]) == (usage, heat), steps
    assert [row["env_steps"] for row in records] == [0, 1000, 3500, 5000, 30_000]
    both = {"env_steps", "gpu/0/memory_used", "gpu/0/memory_share", "gpu/0/utilization"}
    assert records[1].keys() == both
    assert records[3].keys() == both | {"gpu/0/temperature", "gpu/0/power"}
    assert json.loads(json.dumps(records)) == records


def test_alerts_come_once_a_crossing(watching: Watching, caplog: pytest.LogCaptureFixture) -> None:
    gpu, cool = Gpu(), Gpu(uuid="GPU-1")
    monitor, records, _ = watching(Library(gpu, cool), Settings(usage_every=1, heat_every=1))

    def reads(steps: int, share: float, temperature: int) -> list[str]:
        gpu.used, gpu.temperature = round(share * gpu.total), temperature
        said = len(records.alerts)
        for step in (steps, steps + 1):  # by the end of the second, the first's alerts are out
            monitor.observe(step)
            wait_for(lambda s=step: any(row["env_steps"] == s for row in list(records)))
        return records.alerts[said:]

    assert reads(10, 0.95, 85) == []  # at the limits, not above
    assert sorted(reads(20, 0.96, 86)) == [
        "GPU 0: 86 °C, above 85 °C",
        "GPU 0: 96.0% of its memory is in use, above 95%",
    ]
    assert reads(30, 0.99, 95) == []  # still above
    assert reads(40, 0.94, 84) == []  # below, but not by the margin
    assert reads(50, 0.97, 87) == []
    assert reads(60, 0.89, 79) == []
    assert len(reads(70, 0.96, 86)) == 2
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == records.alerts


def test_an_alarm_needs_the_margin() -> None:
    alarm = Alarm(10.0, 2.0)
    heard = [alarm.rises(v) for v in (9, 10, 10.5, 11, 8.5, 10.5, 8, 10, 10.1)]
    assert heard == [False, False, True, False, False, False, False, False, True]


def test_without_a_gpu_cpu_and_memory_are_read_and_it_is_said_once(watching: Watching) -> None:
    monitor, records, told = watching(Library(missing=True))
    for steps in range(0, 4000, 500):
        monitor.observe(steps)
    names = {"cpu/utilization", "memory/used", "memory/share", "memory/process", "env_steps"}
    wait_for(lambda: records.newest.keys() == names)
    numbers = records.newest
    assert 0 <= numbers["cpu/utilization"] <= 1 and 0 < numbers["memory/share"] <= 1
    assert 0 < numbers["memory/process"] <= numbers["memory/used"] * 2
    assert len(told) == 1 and "No GPU is watched" in told[0] and "\n" not in told[0]
    assert records.alerts == []


def test_the_real_library_without_a_gpu_is_no_gpu_or_a_gpu() -> None:
    """Whatever this machine has, asking does no harm."""
    try:
        gpus = Nvml.of_this_process()
    except NoGpu as error:
        assert str(error)
        return
    assert all(value >= 0 for value in (gpus.usage() | gpus.heat()).values())
    gpus.close()


def test_a_driver_that_hangs_or_breaks_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def hangs() -> HostReadings:
        release.wait(60)
        raise OSError("driver gone")

    records = Records()
    monitor = Monitor(SPARSE, records.append, open_gpus=hangs)
    for steps in range(0, 10_000, 1000):
        monitor.observe(steps)
    release.set()
    wait_for(lambda: any("the monitor has stopped" in r.message for r in caplog.records))
    monitor.observe(20_000)
    monitor.close()
    assert records == []
