"""The random numbers of one batch."""

import numpy as np

EVERY = slice(None)


class BatchRng(np.random.Generator):
    """A generator of random numbers for one batch, which knows what batch it is for.

    Whatever is drawn from it is a pure function of the seed and of the batch's place in the run.
    Numbers are always drawn for the whole batch, even where only some of its images are made, so
    that an image is the same whoever makes it.

    Args:
        seed: of the run.
        epoch: of the batch, from 0.
        index: of the batch in its epoch, from 0.
        indices: which images of the data set the batch holds, (batch,).
        rows: which images of the batch are made, (n,); all of them if left out.

    Attributes:
        epoch, rows: as above.
        count: number of images in the batch.
        indices: which images of the data set are made, (n,).
    """

    def __init__(
        self,
        seed: int,
        epoch: int,
        index: int,
        indices: np.ndarray,
        rows: slice | np.ndarray = EVERY,
    ):
        super().__init__(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch, index))))
        self.epoch, self.rows = epoch, rows
        self.count = len(indices)
        self.indices = indices[rows]


def rows_of(images: np.ndarray, rng: np.random.Generator) -> tuple[int, slice | np.ndarray]:
    """Returns how many images numbers are drawn for, and which of these `images` are."""
    return (rng.count, rng.rows) if isinstance(rng, BatchRng) else (len(images), EVERY)
