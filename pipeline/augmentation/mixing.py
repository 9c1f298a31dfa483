"""Images with a rectangle of another, and labels to match."""

import math
from typing import NamedTuple

import numpy as np

from pipeline.augmentation.batchrng import BatchRng


class Mix(NamedTuple):
    """What is pasted into the images of a batch.

    Attributes:
        rows, columns: the rectangle.
        others: of which image of the batch, (batch,).
        share: of the images' area that the rectangle takes.
    """

    rows: slice
    columns: slice
    others: np.ndarray
    share: np.float32


class CutMix:
    """Pastes into every image of a batch the same rectangle of another one (arXiv:1905.04899).

    As in the paper the rectangle has the image's proportions and an area of 1 - lambda, lambda
    from Beta(alpha, alpha); its centre may be any pixel, so that a part may lie outside. Labels are
    mixed by the area that was pasted.

    Args:
        probability: that a batch is mixed.
        alpha: of the Beta distribution; 1 makes the area uniform.
        until: first epoch, from 0, in which nothing is mixed any more; none by default.
    """

    def __init__(self, probability: float, alpha: float = 1.0, until: float = math.inf):
        self.probability, self.alpha, self.until = probability, alpha, until

    def __call__(
        self, images: np.ndarray, labels: np.ndarray, rng: BatchRng
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mixes a batch, the images in place.

        Args:
            images: (batch, height, width, channels).
            labels: float32 (batch, classes), one-hot.
            rng: the batch's, where everything is drawn from.

        Returns:
            Images and labels, each of the shape and type it had.
        """
        mix = self.draw(images.shape[1:3], rng)
        if mix is None:
            return images, labels
        # The right side is a copy, made before anything is pasted.
        images[:, mix.rows, mix.columns] = images[mix.others, mix.rows, mix.columns]
        return images, mixed(labels, labels[mix.others], mix.share)

    def draw(self, size: tuple[int, int], rng: BatchRng) -> Mix | None:
        """Draws what is pasted into a batch; None where nothing is.

        Args:
            size: height and width of the images.
            rng: the batch's, where everything is drawn from.
        """
        if rng.epoch >= self.until or rng.random() >= self.probability:
            return None
        size = np.array(size)
        part = np.rint(size * np.sqrt(1 - rng.beta(self.alpha, self.alpha))).astype(int)
        corner = rng.integers(size) - part // 2
        (top, left), (bottom, right) = np.maximum(corner, 0), np.minimum(corner + part, size)
        share = np.float32((bottom - top) * (right - left) / size.prod())
        return Mix(slice(top, bottom), slice(left, right), rng.permutation(rng.count), share)


def mixed(labels: np.ndarray, others: np.ndarray, share: np.float32) -> np.ndarray:
    """Returns labels of images of which a share is taken by other images, of other labels."""
    return labels * (1 - share) + others * share
