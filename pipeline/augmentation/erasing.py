"""Parts of images set to their mean."""

import math

import numpy as np

from pipeline.augmentation.batchrng import BatchRng, rows_of
from pipeline.augmentation.rectangles import draw_rectangles


class Cutout:
    """Sets one square of every image to 0, the mean of centred images (arXiv:1708.04552).

    The square's centre is any pixel with equal probability, so that a part of the square may lie
    outside the image.

    Args:
        size: side of the square, in pixels.
    """

    def __init__(self, size: int):
        self.size = size

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Cuts the squares out of a batch (batch, height, width, channels), in place.

        Args:
            images: centred.
            rng: where the centres are drawn from.

        Returns:
            `images`.
        """
        count, rows = rows_of(images, rng)
        corners = rng.integers(images.shape[1:3], size=(count, 2))[rows] - self.size // 2
        ends = (corners + self.size).tolist()
        for image, (top, left), (bottom, right) in zip(
            images, np.maximum(corners, 0).tolist(), ends, strict=True
        ):
            image[top:bottom, left:right] = 0
        return images


class RandomErasing:
    """Sets a rectangle of some images to 0, the mean of centred images (arXiv:1708.04896).

    An image is left as it is where ten rectangles drawn do not fit into it, as torchvision has it.

    Args:
        probability: that an image has a rectangle erased.
        until: first epoch, from 0, in which nothing is erased any more; none by default.
        scale: least and largest area of a rectangle, as fractions of the image's.
        ratio: least and largest width divided by height.
    """

    def __init__(
        self,
        probability: float,
        until: float = math.inf,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
    ):
        self.probability, self.until = probability, until
        self.scale, self.ratio = scale, ratio

    def __call__(self, images: np.ndarray, rng: BatchRng) -> np.ndarray:
        """Erases from a batch (batch, height, width, channels), in place.

        Args:
            images: centred.
            rng: the batch's, where rectangles are drawn from.

        Returns:
            `images`.
        """
        if rng.epoch >= self.until:
            return images
        chosen = rng.random(rng.count) < self.probability
        rectangles = np.zeros((rng.count, 4), dtype=np.int64)
        rectangles[chosen] = draw_rectangles(
            chosen.sum(), *images.shape[1:3], self.scale, self.ratio, rng
        )
        for image, (top, left, bottom, right) in zip(images, rectangles[rng.rows], strict=True):
            image[top:bottom, left:right] = 0
        return images
