"""The random numbers of one batch."""

import numpy as np


class Draw(np.random.Generator):
    """A generator of random numbers for one batch, which knows what batch it is for.

    Whatever is drawn from it is a pure function of the seed and of the batch's place in the run.

    Args:
        seed: of the run.
        epoch: of the batch, from 0.
        index: of the batch in its epoch, from 0.
        indices: which images of the data set the batch holds, (batch,).

    Attributes:
        epoch: as above.
        indices: as above.
    """

    def __init__(self, seed: int, epoch: int, index: int, indices: np.ndarray):
        super().__init__(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch, index))))
        self.epoch = epoch
        self.indices = indices
