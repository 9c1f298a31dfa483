"""The devices that a run trains on, and the processes that it consists of."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:  # slow to import: before there are devices, a wrong command line is told
    import numpy as np


@dataclass(frozen=True)
class Devices:
    """Devices that each have a copy of the network and train it on their part of every batch.

    Gradients and the statistics of batch normalization are those of the whole batch, so that a run
    does not depend on how many devices it is divided among, but for the order of its sums.

    Attributes:
        names: of the devices, those of all processes.
        process_count: how many there are, each with as many devices.
        process_index: which of them this one is, from 0.
        scope: makes the context in which the network is built, compiled, trained and asked.
        all_gather: makes an array (processes, n) of arrays (n,), one of each process.
        agreed: for several processes, tells whether they all stop now because one of them has got
            SIGTERM; each asks after every step, with the same numbers, which rise.
        barrier: waits until all processes are at a point, which has a name.
    """

    names: tuple[str, ...] = (platform.machine(),)
    process_count: int = 1
    process_index: int = 0
    scope: Callable[[], AbstractContextManager] = nullcontext
    all_gather: Callable[[np.ndarray], np.ndarray] = lambda array: array[None]
    agreed: Callable[[int], bool] | None = None
    barrier: Callable[[str], None] = lambda point: None

    @property
    def count(self) -> int:
        """Number of devices, in all processes together."""
        return len(self.names)

    @property
    def share(self) -> tuple[int, int]:
        """Which part of every batch is this process's, from 0, and of how many."""
        return self.process_index, self.process_count

    @property
    def chief(self) -> bool:
        """Whether this is the one process that prints, and writes the run's files."""
        return self.process_index == 0

    def __str__(self) -> str:
        text = grouped(self.names)
        return text if self.process_count == 1 else f"{text} in {self.process_count} processes"

    def refuse_undivided(self, batch_size: int, images: int) -> None:
        """Makes sure that the devices can divide a batch among them.

        Args:
            batch_size: of the run, in images.
            images: that there are to train on; fewer than `batch_size` make a batch of their own.

        Raises:
            UserError: they cannot; the message names batch sizes that they can divide.
        """
        for size in (batch_size, min(batch_size, images)):
            if size % self.count == 0:
                continue
            less = size // self.count * self.count
            fitting = [str(fits) for fits in (less, less + self.count) if 0 < fits <= images]
            choice = f"choose {' or '.join(fitting)}" if fitting else "use fewer devices"
            raise UserError(
                f"a batch of {size} images cannot be divided among {self.count} devices: {choice}"
            )

    def refuse_different(self, what: bytes) -> None:
        """Makes sure that all processes are about to do the same.

        Args:
            what: that this one is about to do.

        Raises:
            UserError: another one is about to do something else.
        """
        import numpy as np

        digests = self.all_gather(np.frombuffer(hashlib.sha256(what).digest(), np.uint8))
        different = np.flatnonzero((digests != digests[0]).any(axis=1))
        if len(different):
            raise UserError(
                f"process {different[0]} of {self.process_count} has other options, another "
                "version of this program or its packages, other images or another checkpoint than "
                "process 0: start all of them alike"
            )


def grouped(names: tuple[str, ...] | list[str]) -> str:
    """Returns names of devices as one says them: `4 x NVIDIA A100, NVIDIA T4`."""
    counts = Counter(names).items()
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counts)
