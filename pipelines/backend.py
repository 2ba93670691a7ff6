"""What differs by Keras backend and by device: threads, GPU, memory. Nothing else in the project names a backend.

`configure` must run before Keras is first imported in a process: the libraries read these settings once.
"""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Literal

from pipelines.errors import UserError

Device = Literal["auto", "cpu", "gpu"]
BACKENDS = ("tensorflow", "jax", "torch")


def configure(device: Device = "auto", threads: int | None = None) -> None:
    """Choose device and CPU threads (None: all cores) for this process; raises UserError for a GPU that is not there."""
    backend = name()
    if threads:
        for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"):  # NPROC is what XLA's CPU client reads
            os.environ[variable] = str(threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
    if device == "gpu" and not _gpu_visible(backend):
        raise UserError(
            f"DEVICE=gpu, but {backend} sees no GPU here: use DEVICE=auto or DEVICE=cpu, or install the GPU extra"
        )
    if backend == "torch" and threads:
        import torch

        torch.set_num_threads(threads)


def name() -> str:
    """Return the Keras backend in use, made explicit in the environment; raises UserError for an unknown one."""
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in BACKENDS:
        raise UserError(f"KERAS_BACKEND={backend} is unknown: expected one of {', '.join(BACKENDS)}")
    return backend


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, str]:
    """Return what this process trains on: device, its name, its memory in GiB (GPU), backend and library versions."""
    backend = name()
    facts = {
        "backend": backend,
        "keras_version": metadata.version("keras"),
        "backend_version": metadata.version(backend),
    }
    if _gpu_visible(backend):
        return facts | {"device": "gpu"} | _gpu_facts()
    return facts | {"device": "cpu", "device_name": _cpu_model(), "cpu_cores": str(cores())}


def _gpu_visible(backend: str) -> bool:
    if backend == "tensorflow":
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return bool(jax.default_backend() == "gpu")
    import torch

    return bool(torch.cuda.is_available())


def _gpu_facts() -> dict[str, str]:
    import pynvml

    pynvml.nvmlInit()
    try:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(visible) if visible.isdigit() else 0)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30
        return {"device_name": str(pynvml.nvmlDeviceGetName(handle)), "device_memory_gib": f"{memory:.1f}"}
    finally:
        pynvml.nvmlShutdown()


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
