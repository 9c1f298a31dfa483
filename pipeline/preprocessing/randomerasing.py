"""Random rectangles erased from images."""

import math

import numpy as np

from pipeline.preprocessing.draw import Draw
from pipeline.preprocessing.rectangles import draw_rectangles


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

    def augment(self, images: np.ndarray, rng: Draw) -> np.ndarray:
        """Erases from a batch (batch, height, width, channels), in place.

        Args:
            images: centred.
            rng: the batch's, where rectangles are drawn from.

        Returns:
            `images`.
        """
        if rng.epoch >= self.until:
            return images
        chosen = np.flatnonzero(rng.random(len(images)) < self.probability)
        rectangles = draw_rectangles(len(chosen), *images.shape[1:3], self.scale, self.ratio, rng)
        for index, (top, left, bottom, right) in zip(chosen, rectangles, strict=True):
            images[index, top:bottom, left:right] = 0
        return images
