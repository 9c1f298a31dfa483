"""Scaling of pixels to the unit interval."""

import numpy as np


class ScalePreprocessor:
    """Divides pixels by 255."""

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Maps an image, or every image of a batch, from 0 .. 255 to 0 .. 1, as float32."""
        return np.divide(image, 255, dtype=np.float32)
