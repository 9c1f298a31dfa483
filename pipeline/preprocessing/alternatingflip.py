"""Mirror images by turns."""

import numpy as np

from pipeline.preprocessing.draw import Draw
from pipeline.preprocessing.randomflip import mirror


class AlternatingFlip:
    """Mirrors a random half of the images in the first epoch, and every image every other epoch.

    So in any two consecutive epochs an image is seen from both sides, which independent flips
    leave to chance (arXiv:2404.00498).

    Args:
        count: number of images in the data set.
        seed: of the half that is mirrored in the first epoch.
    """

    def __init__(self, count: int, seed: int):
        self._first = np.random.default_rng(np.random.SeedSequence(seed)).random(count) < 0.5

    def augment(self, images: np.ndarray, rng: Draw) -> np.ndarray:
        """Mirrors a batch (batch, height, width, channels) in place.

        Args:
            images: of any type.
            rng: the batch's, for its epoch and the indices of its images; nothing is drawn.

        Returns:
            `images`.
        """
        return mirror(images, self._first[rng.indices] ^ (rng.epoch % 2 == 1))
