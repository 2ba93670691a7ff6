"""The device that a process trains on: which GPUs there are, what they are called, and how busy process and GPU are."""

import os
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pynvml

SAMPLING_INTERVAL = 1.0  # seconds between looks at a GPU
SAMPLES_KEPT = 3_600


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_memory() -> float:
    """Return the memory of this process alone, in GiB: pages of files that it has mapped can be taken from it at any time."""
    memory = psutil.Process().memory_info()
    return float(memory.rss - getattr(memory, "shared", 0)) / 2**30


def cpu_name() -> str:
    """Return what the CPU is called."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpus() -> list[str]:
    """Return the ids of the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES would list them."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        listed = [gpu.strip() for gpu in chosen.split(",")]
        return listed[: listed.index("-1")] if "-1" in listed else [gpu for gpu in listed if gpu]
    try:
        with _nvml():
            return [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:  # no driver: no GPU
        return []


def gpu_facts() -> dict[str, str]:
    """Return name and memory (GiB) of the GPU that this process trains on, the first that it may use, as far as NVML tells."""
    try:
        with _nvml():
            gpu = _handle(gpus()[0])
            memory = pynvml.nvmlDeviceGetMemoryInfo(gpu).total / 2**30
            return {"device_name": str(pynvml.nvmlDeviceGetName(gpu)), "device_memory_gib": f"{memory:.1f}"}
    except (pynvml.NVMLError, IndexError) as error:
        print(f"the GPU's name and memory cannot be read ({error})")
        return {"device_name": "unknown"}


class Meter:
    """How busy this process and its GPU are; another process's device is not looked at."""

    def __init__(self, gpu_id: str | None) -> None:
        self.samples: deque[tuple[float, dict[str, float]]] = deque(
            maxlen=SAMPLES_KEPT
        )  # of the GPU, by monotonic seconds
        if gpu_id is not None:
            threading.Thread(target=self._watch, args=(gpu_id,), daemon=True).start()

    def reader(self) -> "Reader":
        """Return one who reads from now on, whoever else does."""
        return Reader(self)

    def _watch(self, gpu_id: str) -> None:
        try:
            with _nvml():
                gpu = _handle(gpu_id)
                while True:
                    self.samples.append((time.monotonic(), _gpu_readings(gpu)))
                    time.sleep(SAMPLING_INTERVAL)
        except pynvml.NVMLError as error:
            print(f"the GPU cannot be measured ({error}): its system metrics are missing")


class Reader:
    """What a meter has seen since the last reading."""

    def __init__(self, meter: Meter):
        self._meter, self._process, self._read = meter, psutil.Process(), time.monotonic()
        self._process.cpu_percent()  # the first reading is the beginning

    def read(self) -> dict[str, float]:
        """Return CPU use in percent of one core, memory in megabytes, and the GPU's means, as MLflow names system metrics."""
        readings = {
            "system/process_cpu_utilization_percentage": self._process.cpu_percent(),
            "system/process_memory_usage_megabytes": self._process.memory_info().rss / 1e6,
        }
        before, self._read = self._read, time.monotonic()
        samples = [sample for when, sample in list(self._meter.samples) if when > before]
        for name in {name for sample in samples for name in sample}:
            values = [sample[name] for sample in samples if name in sample]
            readings[name] = sum(values) / len(values)
        return readings


def _gpu_readings(gpu: Any) -> dict[str, float]:
    """Return what this GPU can measure: a part of one has no power of its own, for instance."""
    sources: dict[str, Callable[[], float]] = {
        "system/gpu_utilization_percentage": lambda: float(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
        "system/gpu_memory_usage_megabytes": lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu).used / 1e6,
        "system/gpu_power_usage_watts": lambda: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
    }
    readings = {}
    for name, read in sources.items():
        with suppress(pynvml.NVMLError_NotSupported):
            readings[name] = read()
    return readings


@contextmanager
def _nvml() -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _handle(gpu_id: str) -> Any:
    return (
        pynvml.nvmlDeviceGetHandleByIndex(int(gpu_id)) if gpu_id.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(gpu_id)
    )
