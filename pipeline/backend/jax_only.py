"""All that is specific to the JAX backend; the other backends never import it."""

import platform
from itertools import groupby

import jax
import keras

from pipeline.backend.devices import Devices


def devices(limit: int | None) -> Devices:
    """Returns the devices to train on: JAX's own choice of GPUs or else CPUs.

    Args:
        limit: how many of them in each process; all that there are if left out.
    """
    used = [
        device
        for _, found in groupby(jax.devices(), lambda device: device.process_index)
        for device in list(found)[:limit]
    ]
    names = tuple(d.device_kind if d.platform != "cpu" else platform.machine() for d in used)
    if len(used) == 1:
        return Devices(names)
    distribution = keras.distribution.DataParallel(
        devices=[f"{device.platform}:{device.id}" for device in used], auto_shard_dataset=False
    )
    return Devices(names, jax.process_count(), jax.process_index(), distribution.scope)
