"""Starting Keras: backend, devices and precision."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.backend import processor
from pipeline.backend.devices import Devices, grouped
from pipeline.errors import UserError

if TYPE_CHECKING:
    import keras
    import numpy as np


# Where launchers say how many processes they have started.
LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
BACKENDS = ("tensorflow", "jax", "torch")  # Keras's other ones cannot train


def start(precision: str = "float32") -> None:
    """Imports Keras and sets what holds for the whole process; prints what it runs on.

    Args:
        precision: Keras's dtype policy.

    Raises:
        UserError: the backend's package is not installed, or the backend cannot train.
    """
    asked = os.environ.get("KERAS_BACKEND")
    if asked and asked not in BACKENDS:
        raise _unfit(asked, "KERAS_BACKEND is")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine() == "x86_64":
        # Before the import, at which TensorFlow decides. By itself it uses oneDNN on some newer
        # processors only; on one with AVX2 alone, training takes 3.5 to 8 times as long without.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        with quiet():
            import keras

            backend = keras.backend.backend()
            if backend not in BACKENDS:
                raise _unfit(backend, "Keras's settings, keras.json, name the backend")
            if backend == "tensorflow":
                from pipeline.backend import tensorflow_only

                tensorflow_only.grow_gpu_memory()
            names = gpu_names()
            keras.utils.set_random_seed(42)  # imports TensorFlow on every backend
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "keras":  # nothing of this project is installed
            raise
        what = missing if missing in ("jax", "torch") else "."
        raise UserError(
            f"Keras's backend cannot be imported ({error}): install it with 'pip install {what}', "
            f"or name an installed one with KERAS_BACKEND={' or '.join(BACKENDS)}"
        ) from error
    keras.config.set_dtype_policy(precision)
    keras.config.set_image_data_format("channels_last")  # whatever ~/.keras/keras.json says
    cores = processor.cores()
    device = grouped(names) or f"CPU ({cores} core{'s' if cores > 1 else ''})"
    version = sys.modules[backend].__version__
    print(f"Keras {keras.__version__} on {backend} {version}, {device}, {precision}", flush=True)


def _unfit(backend: str, said: str) -> UserError:
    return UserError(f"{said} {backend}: name one of {', '.join(BACKENDS)} with KERAS_BACKEND")


def gpu_names() -> list[str]:
    """Returns the names of the GPUs that the backend sees."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        from pipeline.backend import tensorflow_only

        return tensorflow_only.gpu_names()
    if backend == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform == "gpu"]
    if backend == "torch":
        import torch

        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return []


def join(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> int | None:
    """Joins the other processes of a run, if there are others; comes before `start`.

    Args:
        coordinator, processes, process: see `jax_only.join`. If left out, they are looked for where
            Slurm or Open MPI have started more than one process.

    Returns:
        Which of the processes this one is, from 0; None if it is the only one.

    Raises:
        UserError: the backend is not JAX, or the others are not there.
    """
    launched = any(int(os.environ.get(name, 1)) > 1 for name in LAUNCHERS)
    if os.environ.get("KERAS_BACKEND") == "jax" and (coordinator or launched):
        from pipeline.backend import jax_only

        with quiet():  # Gloo tells on stdout whom it has found
            return jax_only.join(coordinator, processes, process)
    if coordinator:
        raise UserError("only JAX trains in several processes: set KERAS_BACKEND=jax")
    return None  # what a launcher has started are runs of their own


def available_devices(limit: int | None = None) -> Devices:
    """Returns the devices to train on: all that the backend can use at once.

    Args:
        limit: how many of them to use in each process.

    Raises:
        UserError: there are fewer.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        from pipeline.backend import tensorflow_only

        found = tensorflow_only.devices(limit)
    elif backend == "jax":
        from pipeline.backend import jax_only

        found = jax_only.devices(limit)
    else:
        found = Devices(tuple(gpu_names()[:1]) or (platform.machine(),))
    if limit and found.count < limit * found.process_count:
        count = found.count // found.process_count
        raise UserError(
            f"--devices {limit}, but Keras on {backend} can train on {count} here: "
            "lower it or leave it out"
        )
    return found


def uses_onednn() -> bool | None:
    """Returns whether TensorFlow computes with oneDNN; None on the other backends."""
    import keras

    if keras.backend.backend() == "tensorflow":
        from pipeline.backend import tensorflow_only

        return tensorflow_only.uses_onednn()
    return None


def accelerate(network: keras.Model, optimizer: keras.optimizers.Optimizer | None = None) -> None:
    """Lets a network and its optimizer compute faster where the backend can, to equal results."""
    import keras

    if keras.backend.backend() == "tensorflow":
        from pipeline.backend import tensorflow_only

        tensorflow_only.use_fused_kernels(network, optimizer)


def is_out_of_memory(error: Exception) -> bool:
    """Tells whether a backend has failed because a device, or this machine, has no memory left."""
    names = {cls.__name__ for cls in type(error).__mro__}
    known = {"ResourceExhaustedError", "OutOfMemoryError", "MemoryError"}  # the last is Python's
    return bool(names & known) or "RESOURCE_EXHAUSTED" in str(error)  # JAX has no class for it


def to_numpy(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Returns the values of variables as arrays on the host.

    On JAX all copies are begun before the first is waited for, and an array that has been copied
    keeps its copy: one at a time, each would wait for whatever else the GPU is at.
    """
    import keras

    if keras.backend.backend() == "jax":
        for variable in variables:
            variable.value.copy_to_host_async()
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


@contextmanager
def quiet() -> Iterator[None]:
    """Holds back what libraries write to stdout and stderr, unless what they do fails.

    TensorFlow's C++ reports missing GPU drivers before it looks at its own log level, and its
    converters have none.
    """
    shown = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as held_back:
        _redirect(held_back.fileno(), held_back.fileno())
        try:
            yield
        except BaseException:
            _flush_streams()
            held_back.seek(0)
            os.write(shown[1], held_back.read())
            raise
        finally:
            _redirect(*shown)
            for stream in shown:
                os.close(stream)


def _redirect(stdout: int, stderr: int) -> None:
    _flush_streams()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)


def _flush_streams() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
