"""Random mirror images."""

import cv2
import numpy as np


def mirror(images: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mirrors those images of a batch left to right, in place, where `chosen`, (batch,), is true.

    Returns:
        `images`.
    """
    for index in np.flatnonzero(chosen):
        images[index] = cv2.flip(images[index], 1)
    return images


class RandomFlip:
    """Mirrors every image of a batch left to right with probability 1/2."""

    def augment(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mirrors a batch (batch, height, width, channels) in place.

        Args:
            images: of any type.
            rng: where it is drawn from which of them are mirrored.

        Returns:
            `images`.
        """
        return mirror(images, rng.random(len(images)) < 0.5)
