"""Centring of images by the mean of the training set."""

import numpy as np


class MeanPreprocessor:
    """Subtracts the training set's mean.

    Args:
        mean: what is subtracted, of a shape that broadcasts to (height, width, 3); channels are in
            the order red, green, blue.

    Raises:
        ValueError: `mean` has not three channels or is not finite.
    """

    def __init__(self, mean: np.ndarray):
        self.mean = np.asarray(mean, dtype=np.float32)
        if self.mean.shape[-1:] != (3,) or not np.isfinite(self.mean).all():
            raise ValueError(
                f"mean must hold finite red, green and blue: got shape {self.mean.shape}"
            )

    @classmethod
    def of_images(cls, images: np.ndarray) -> "MeanPreprocessor":
        """Takes the mean image, pixel by pixel, of uint8 `images` (n, height, width, 3)."""
        # Sums of integers are exact, whatever the order they are taken in.
        return cls(images.sum(axis=0, dtype=np.int64) / len(images))

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Subtracts the mean from an RGB image, or from every image of a batch, as float32."""
        return np.subtract(image, self.mean, dtype=np.float32)
