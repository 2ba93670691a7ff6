"""What differs by Keras backend and by device: threads, GPU, memory, gradients. Besides it, only populations name one: JAX.

`configure` must run before Keras is first imported in a process: the libraries read these settings once.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.quiet import quiet
from pipelines import device as devices
from pipelines.errors import UserError
from pipelines.mixup import Labels

Device = Literal["auto", "cpu", "gpu"]
SETTINGS: dict[str, Any] = {"image_data_format": "channels_last", "floatx": "float32", "epsilon": 1e-7}  # of Keras
BACKENDS = ("tensorflow", "jax", "torch")


def configure(device: Device = "auto", threads: int | None = None, gpu: str | None = None) -> None:
    """Choose device, CPU threads (None: all cores) and GPU (None: whichever the backend takes) for this process.

    Raises UserError for a GPU that is not there.
    """
    backend = name()
    _set_defaults()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if threads:
        for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC"):  # NPROC is what XLA's CPU client reads
            os.environ[variable] = str(threads)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
    if device == "gpu" and not _gpu_visible(backend):
        raise UserError(f"--device gpu, but {backend} sees no GPU here: use auto or cpu, or install the GPU extra")
    if backend == "torch" and threads:
        import torch

        torch.set_num_threads(threads)


def _set_defaults() -> None:
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the numbers that NVML uses
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def name() -> str:
    """Return the Keras backend in use: KERAS_BACKEND, else that of the user's `keras.json`, else TensorFlow.

    It is made explicit in the environment. Raises UserError for an unknown one.
    """
    path, said = _keras_json()
    known = os.environ.get("KERAS_BACKEND")
    backend = known or str(said.get("backend", "tensorflow"))
    if backend not in BACKENDS:
        raise UserError(
            f"{f'KERAS_BACKEND={backend}' if known else f'backend {backend} in {path}'} is unknown: expected one of "
            f"{', '.join(BACKENDS)}"
        )
    os.environ["KERAS_BACKEND"] = backend
    return backend


def preload() -> None:
    """Import Keras where `configure` has yet to speak: TensorFlow and PyTorch read threads and devices when they first compute.

    JAX reads its devices when it is imported, and PyTorch asks for CUDA, so they are left alone.
    """
    _set_defaults()
    if name() == "tensorflow":
        with quiet():
            import keras  # noqa: F401


def load() -> None:
    """Import Keras, with our settings whatever the user's `keras.json` says, and find the devices."""
    with quiet():
        import keras

        keras.config.set_image_data_format(SETTINGS["image_data_format"])
        keras.config.set_floatx(SETTINGS["floatx"])
        keras.config.set_epsilon(SETTINGS["epsilon"])
        keras.ops.zeros(1)


@contextmanager
def precision(mixed: str | None) -> Iterator[None]:
    """Let layers that are made meanwhile compute in `mixed` (float16, bfloat16) with weights in float32; None: all in float32.

    Keras's policy is one for the whole process, so that it is put back.
    """
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(f"mixed_{mixed}" if mixed else SETTINGS["floatx"])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def note_on_settings() -> str | None:
    """Return a line on what the user's `keras.json` says and is not used; None where it says nothing else."""
    path, said = _keras_json()
    other = {key: said[key] for key in SETTINGS if key in said and said[key] != SETTINGS[key]}
    if not other:
        return None
    words = ", ".join(f"{key} {value}" for key, value in other.items())
    ours = ", ".join(f"{key} {SETTINGS[key]}" for key in other)
    return f"{path} has {words}; studies train with {ours}, so that their results compare"


def _keras_json() -> tuple[Path, dict[str, Any]]:
    path = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return path, {}
    return path, said if isinstance(said, dict) else {}


def batches_a_call() -> int:
    """Return how many batches Keras should train on in one call of the backend; more than one changes no result.

    TensorFlow trains up to half as fast again where batches are small (benchmarks/throughput.py), JAX twice as fast on a GPU
    (benchmarks/gpu.py) and no faster on a CPU.
    """
    backend = name()
    if backend == "tensorflow":
        return 100
    return 50 if backend == "jax" and _gpu_visible(backend) else 1


@contextmanager
def batches(
    prepared: Callable[[slice], Any], shape: Any, y: "NDArray[Any] | Labels", size: int
) -> Iterator[dict[str, Any]]:
    """Let Keras's `fit` train on what `prepared` gives for some places, of `shape`, and labels `y`: yields its arguments.

    `prepared`: gives an array of float32; of several inputs, one by each name, and so is `shape`. `y`: (n,) or, of a regression,
    (n, k).

    A batch is prepared when it is wanted, so that an epoch need not fit into memory. TensorFlow is given a pipeline that prepares
    one while another is trained on. The one that Keras would make tunes itself in a thread that may sleep through the
    pipeline's end: `fit` then returns later, by up to as much as it has taken.
    """
    count = -(-len(y) // size)
    if name() != "tensorflow":
        yield {"x": _sequence(prepared, y, size, count)}
        return
    import tensorflow

    held = [(prepared, y)]  # TensorFlow may never let go of `batch`, so that must let go of these
    kind, of_labels = y.dtype, y.shape[1:]
    shapes = shape if isinstance(shape, dict) else {"": shape}
    kinds = [tensorflow.float32] * len(shapes)

    def batch(number: int) -> list[NDArray[Any]]:
        ((of_rows, labels),) = held
        rows = slice(number * size, (number + 1) * size)
        found = of_rows(rows)
        return [*([found[name] for name in shapes] if isinstance(found, dict) else [found]), labels[rows]]

    def typed(number: Any) -> tuple[Any, Any]:
        *inputs, labels = tensorflow.numpy_function(batch, [number], [*kinds, kind], stateful=False)
        x = {
            name: tensorflow.ensure_shape(each, [None, *of_one])
            for (name, of_one), each in zip(shapes.items(), inputs, strict=True)
        }
        return x.get("", x), tensorflow.ensure_shape(labels, [None, *of_labels])

    options = tensorflow.data.Options()
    options.autotune.enabled = False
    numbers = tensorflow.data.Dataset.range(count)
    try:
        yield {"x": numbers.map(typed).prefetch(2).with_options(options)}
    finally:
        held.clear()


def _sequence(prepared: Callable[[slice], Any], y: "NDArray[Any] | Labels", size: int, count: int) -> Any:
    """Return batches as Keras takes them on every backend."""
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return count

        def __getitem__(self, number: int) -> tuple[Any, Any]:
            rows = slice(number * size, (number + 1) * size)
            return prepared(rows), y[rows]

    return Batches()


def describe() -> dict[str, str]:
    """Return what this process trains on: device, its name, its memory in GiB (GPU), backend and library versions.

    On a GPU under JAX also `matmul_precision`: by default products are computed in TF32, where the GPU has it.
    """
    backend = name()
    facts = {
        "backend": backend,
        "keras_version": metadata.version("keras"),
        "backend_version": metadata.version(backend),
    }
    if _gpu_visible(backend):
        return facts | {"device": "gpu"} | devices.gpu_facts() | _precision(backend)
    return facts | {"device": "cpu", "device_name": devices.cpu_name(), "cpu_cores": str(devices.cores())}


def _precision(backend: str) -> dict[str, str]:
    if backend != "jax":
        return {}
    import jax

    return {"matmul_precision": str(jax.config.jax_default_matmul_precision or "default")}


def _gpu_visible(backend: str) -> bool:
    if backend == "tensorflow":
        import tensorflow

        return bool(tensorflow.config.list_physical_devices("GPU"))
    if backend == "jax":
        import jax

        return bool(jax.default_backend() == "gpu")
    import torch

    return bool(torch.cuda.is_available())


def gradient(function: Callable[[Any], Any], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return d function / dx at `x`, for a function of a tensor that returns one number, as Keras's tensors."""
    backend = name()
    if backend == "tensorflow":
        import tensorflow

        tensor = tensorflow.convert_to_tensor(x)
        with tensorflow.GradientTape() as tape:
            tape.watch(tensor)
            value = function(tensor)
        return np.asarray(tape.gradient(value, tensor))
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    import torch

    tensor = torch.tensor(x, requires_grad=True)
    function(tensor).backward()
    return np.asarray(tensor.grad)
