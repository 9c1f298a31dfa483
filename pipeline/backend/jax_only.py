"""All that is specific to the JAX backend; the other backends never import it."""

import platform
from collections import Counter
from itertools import groupby

import jax
from jax.experimental import multihost_utils
from keras.distribution import DataParallel, TensorLayout

from pipeline.backend.devices import Devices
from pipeline.errors import UserError

# A process that has not been heard of for so long has died, or hangs, and the others end.
HEARTBEAT_SECONDS = 30
# How long a process that ends early because of an error waits for the others.
SHUTDOWN_SECONDS = 10
# How long a process may look at pictures, or write its report, while the others wait.
BARRIER_SECONDS = 24 * 3600


def join(coordinator: str | None, processes: int | None, process: int | None) -> int:
    """Joins the other processes of a run; comes before any device is looked at.

    Args:
        coordinator: host and port where process 0 listens, such as `node1:1234`.
        processes: how many there are.
        process: which of them this one is, from 0.

    What is None is what Slurm or Open MPI say.

    Returns:
        Which of the processes this one is.

    Raises:
        UserError: the others are not there, or nothing says where they are.
    """
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
        multihost_utils.sync_global_devices("the run begins")
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of this run do not find each other: {error}") from error
    return jax.process_index()


class _DataParallel(DataParallel):
    """Lets every process have all of the probabilities, and not those of its own images alone."""

    def get_tensor_layout(self, path: str) -> TensorLayout | None:
        if path.endswith("softmax/output"):
            return TensorLayout([None, None], self.device_mesh)
        return None


def devices(limit: int | None) -> Devices:
    """Returns the devices to train on: JAX's own choice of GPUs or else CPUs.

    Args:
        limit: how many of them in each process; all that there are if left out.

    Raises:
        UserError: a process has fewer than another.
    """
    used = [
        device
        for _, found in groupby(jax.devices(), lambda device: device.process_index)
        for device in list(found)[:limit]
    ]
    counts = Counter(device.process_index for device in used)
    if len(set(counts.values())) > 1:
        raise UserError(
            f"the processes have from {min(counts.values())} to {max(counts.values())} devices, "
            "and need as many each: --devices limits them"
        )
    names = tuple(d.device_kind if d.platform != "cpu" else platform.machine() for d in used)
    if len(used) == 1:
        return Devices(names)
    distribution = _DataParallel(
        devices=[f"{device.platform}:{device.id}" for device in used], auto_shard_dataset=False
    )
    if jax.process_count() == 1:
        return Devices(names, scope=distribution.scope)
    return Devices(
        names,
        jax.process_count(),
        jax.process_index(),
        distribution.scope,
        multihost_utils.process_allgather,
        multihost_utils.reached_preemption_sync_point,
        _barrier,
    )


def _barrier(point: str) -> None:
    # Nothing public waits for as long.
    jax._src.distributed.global_state.client.wait_at_barrier(point, BARRIER_SECONDS * 1000)
