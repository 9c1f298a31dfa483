"""Squares cut out of images."""

import numpy as np


class Cutout:
    """Sets one square of every image to 0, the mean of centred images (arXiv:1708.04552).

    The square's centre is any pixel with equal probability, so that a part of the square may lie
    outside the image.

    Args:
        size: side of the square, in pixels.
    """

    def __init__(self, size: int):
        self.size = size

    def augment(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Cuts the squares out of a batch (batch, height, width, channels), in place.

        Args:
            images: centred.
            rng: where the centres are drawn from.

        Returns:
            `images`.
        """
        corners = rng.integers(images.shape[1:3], size=(len(images), 2)) - self.size // 2
        ends = (corners + self.size).tolist()
        for image, (top, left), (bottom, right) in zip(
            images, np.maximum(corners, 0).tolist(), ends, strict=True
        ):
            image[top:bottom, left:right] = 0
        return images
