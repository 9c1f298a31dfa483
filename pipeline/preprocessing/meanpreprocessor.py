"""Centring of images by the mean of the training set."""

import json
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.files.reading import read_regular

CHANNELS = ("R", "G", "B")
BUILD = "build"
JSON_BYTES_LIMIT = 2**16


class MeanPreprocessor:
    """Subtracts the training set's mean.

    Args:
        mean: what is subtracted, of a shape that broadcasts to (height, width, 3); channels are in
            the order red, green, blue.

    Attributes:
        build: id of the data set's build, if the mean was read from a file that names it.

    Raises:
        ValueError: `mean` has not three channels or is not finite.
    """

    def __init__(self, mean: np.ndarray):
        self.mean = np.asarray(mean, dtype=np.float32)
        self.build: object = None
        if self.mean.shape[-1:] != (3,) or not np.isfinite(self.mean).all():
            raise ValueError(
                f"mean must hold finite red, green and blue: got shape {self.mean.shape}"
            )

    @classmethod
    def of_images(cls, images: np.ndarray) -> "MeanPreprocessor":
        """Takes the mean image, pixel by pixel, of uint8 `images` (n, height, width, 3)."""
        # Sums of integers are exact, whatever the order they are taken in.
        return cls(images.sum(axis=0, dtype=np.int64) / len(images))

    @classmethod
    def from_json(cls, path: str | Path) -> "MeanPreprocessor":
        """Reads the mean colour, such as `{"R": 122.4, "G": 114.2, "B": 101.3}`.

        The file may name as `build` the build of the data set that it is of.

        Raises:
            UserError: the file is missing, or does not hold these three means of 0 to 255.
        """
        try:
            mean = json.loads(read_regular(path, JSON_BYTES_LIMIT))
            colour = [mean[channel] for channel in CHANNELS]
            numbers = all(type(value) in (int, float) and 0 <= value <= 255 for value in colour)
            if mean.keys() - {*CHANNELS, BUILD} or not numbers:
                raise ValueError("it holds something else")
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{path} does not hold the mean colour, R, G and B from 0 to 255: build it again"
            ) from error
        preprocessor = cls(np.array(colour))
        preprocessor.build = mean.get(BUILD)
        return preprocessor

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Subtracts the mean from an RGB image, or from every image of a batch, as float32."""
        # Spelled out for a whole image, a mean colour is subtracted five times as fast: NumPy
        # runs along the last axis it broadcasts, and three numbers make a short run.
        mean = np.broadcast_to(self.mean, image.shape[-3:]).copy()
        return np.subtract(image, mean, dtype=np.float32)

    def restore(self, image: np.ndarray) -> np.ndarray:
        """Makes of what `preprocess` returned, augmented or not, a uint8 image to look at."""
        return np.clip(np.rint(image + self.mean), 0, 255).astype(np.uint8)
