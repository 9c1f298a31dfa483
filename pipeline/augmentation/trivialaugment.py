"""TrivialAugment: one operation an image, of random kind and strength."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.augmentation.batchrng import BatchRng
from pipeline.augmentation.geometry import warp

LEVELS = 31  # of strength, 0 to 30
X, Y = 0, 1


class TrivialAugment:
    """Applies to an image one operation of `OPERATIONS`, at a random strength (arXiv:2103.10158).

    The operations and their wide ranges are the paper's, in torchvision's reading of them. What a
    geometric one brings in from outside the image is black.

    Args:
        probability: that an image is chosen.
        until: first epoch, from 0, in which no image is chosen any more; none by default.
    """

    def __init__(self, probability: float = 1.0, until: float = math.inf):
        self.probability, self.until = probability, until

    def __call__(self, images: np.ndarray, rng: BatchRng) -> np.ndarray:
        """Augments a batch in place.

        Args:
            images: uint8 RGB (batch, height, width, 3).
            rng: the batch's, where everything is drawn from.

        Returns:
            `images`.
        """
        if rng.epoch >= self.until:
            return images
        count, rows = rng.count, rng.rows
        chosen = rng.random(count)[rows] < self.probability
        kinds = rng.integers(len(OPERATIONS), size=count)[rows]
        strengths = rng.integers(LEVELS, size=count)[rows] / (LEVELS - 1)
        signs = rng.choice((-1, 1), count)[rows]
        for kind, operation in enumerate(OPERATIONS.values()):
            these = np.flatnonzero(chosen & (kinds == kind))
            if len(these):
                magnitudes = strengths[these] * operation.largest
                if operation.signed:
                    magnitudes *= signs[these]
                images[these] = operation.apply(images[these], magnitudes)
        return images


def _identity(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    return images


def _warp(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    return warp(images, matrices, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)


def _matrices(count: int) -> np.ndarray:
    return np.tile(np.eye(2, 3), (count, 1, 1))


def _shear(images: np.ndarray, magnitudes: np.ndarray, axis: int) -> np.ndarray:
    matrices = _matrices(len(images))
    matrices[:, axis, 1 - axis] = magnitudes
    matrices[:, axis, 2] = magnitudes / 2  # the corner stays, and pixels have their centres at 1/2
    return _warp(images, matrices)


def _translate(images: np.ndarray, magnitudes: np.ndarray, axis: int) -> np.ndarray:
    matrices = _matrices(len(images))
    matrices[:, axis, 2] = np.trunc(magnitudes)
    return _warp(images, matrices)


def _rotate(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    angles = np.deg2rad(magnitudes)
    matrices = _matrices(len(images))
    matrices[:, 0, 0] = matrices[:, 1, 1] = np.cos(angles)
    matrices[:, 1, 0] = np.sin(angles)
    matrices[:, 0, 1] = -matrices[:, 1, 0]
    centre = np.array([(images.shape[2] - 1) / 2, (images.shape[1] - 1) / 2])
    matrices[:, :, 2] = centre - matrices[:, :, :2] @ centre
    return _warp(images, matrices)


def _blend(images: np.ndarray, others: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    """Goes from the other images, at magnitude -1, through the images, at 0, beyond them."""
    factors = (1 + magnitudes).astype(np.float32)[:, None, None, None]
    blended = np.subtract(images, others, dtype=np.float32)
    blended *= factors
    blended += others
    return np.clip(blended, 0, 255, out=blended).astype(np.uint8)


def _gray(images: np.ndarray) -> np.ndarray:
    """Returns the luma, 0.299 R + 0.587 G + 0.114 B, as uint8 (batch, height, width, 1)."""
    rows = images.reshape(-1, *images.shape[2:])  # one image to OpenCV
    return cv2.cvtColor(rows, cv2.COLOR_RGB2GRAY).reshape(*images.shape[:3], 1)


def _brightness(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    return _blend(images, np.zeros_like(images[:, :1, :1, :1]), magnitudes)


def _color(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    return _blend(images, _gray(images), magnitudes)


def _contrast(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    means = _gray(images).mean(axis=(1, 2, 3), keepdims=True)
    return _blend(images, np.floor(means + 0.5).astype(np.uint8), magnitudes)


_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13


def _sharpness(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    smooth = images.copy()  # and the edge stays as it is
    for image, target in zip(images, smooth, strict=True):
        target[1:-1, 1:-1] = cv2.filter2D(image, -1, _SMOOTH)[1:-1, 1:-1]
    return _blend(images, smooth, magnitudes)


def _posterize(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    dropped = np.rint(magnitudes).astype(np.uint8)
    return images & (0xFF << dropped)[:, None, None, None].astype(np.uint8)


def _solarize(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    thresholds = (255 - magnitudes)[:, None, None, None]
    return np.where(images >= thresholds, 255 - images, images)


def _channels(images: np.ndarray) -> np.ndarray:
    """Returns the values of each channel side by side, (batch, channels, height * width)."""
    # NumPy runs along the last axis, and three channels make a short run.
    return np.ascontiguousarray(images.reshape(len(images), -1, images.shape[-1]).swapaxes(1, 2))


def _look_up(images: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Replaces each value by that of its image's and channel's table, (batch, channels, 256)."""
    tables = np.ascontiguousarray(tables.astype(np.uint8).swapaxes(1, 2))[:, np.newaxis]
    replaced = np.empty(images.shape, images.dtype)
    for image, table, target in zip(images, tables, replaced, strict=True):
        cv2.LUT(image, table, target)
    return replaced


def _autocontrast(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    channels = _channels(images)
    least = channels.min(axis=2, keepdims=True).astype(int)
    extent = channels.max(axis=2, keepdims=True) - least
    values = np.arange(256)
    stretched = np.clip((values - least) * 255 // np.maximum(extent, 1), 0, 255)
    return _look_up(images, np.where(extent == 0, values, stretched))


def _equalize(images: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    channels = _channels(images)
    histograms = [np.bincount(values, minlength=256) for image in channels for values in image]
    histograms = np.reshape(histograms, (*channels.shape[:2], 256))
    below = histograms.cumsum(axis=2) - histograms
    # The pixels that are not of the brightest value, shared out among 255 steps.
    brightest = channels.max(axis=2, keepdims=True).astype(int)
    steps = np.take_along_axis(below, brightest, axis=2) // 255
    equalized = np.minimum((below + steps // 2) // np.maximum(steps, 1), 255)
    return _look_up(images, np.where(steps == 0, np.arange(256), equalized))


class _Operation(NamedTuple):
    """An operation of `TrivialAugment` and its range."""

    apply: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Makes new images from uint8 (batch, height, width, 3) and magnitudes (batch,)."""
    largest: float = 0
    """Magnitude at full strength; at strength 0 it is 0."""
    signed: bool = False
    """Whether it goes both ways."""


OPERATIONS = {
    "identity": _Operation(_identity),
    "shear_x": _Operation(partial(_shear, axis=X), 0.99, signed=True),  # pixels a row
    "shear_y": _Operation(partial(_shear, axis=Y), 0.99, signed=True),
    "translate_x": _Operation(partial(_translate, axis=X), 32, signed=True),  # pixels
    "translate_y": _Operation(partial(_translate, axis=Y), 32, signed=True),
    "rotate": _Operation(_rotate, 135, signed=True),  # degrees
    "brightness": _Operation(_brightness, 0.99, signed=True),
    "color": _Operation(_color, 0.99, signed=True),
    "contrast": _Operation(_contrast, 0.99, signed=True),
    "sharpness": _Operation(_sharpness, 0.99, signed=True),
    "posterize": _Operation(_posterize, 6),  # bits dropped
    "solarize": _Operation(_solarize, 255),  # brightest value less the first that is inverted
    "autocontrast": _Operation(_autocontrast),
    "equalize": _Operation(_equalize),
}
