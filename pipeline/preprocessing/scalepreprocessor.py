"""Scaling of pixels to the unit interval."""

import numpy as np


class ScalePreprocessor:
    """Divides pixels by 255."""

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Maps an image, or every image of a batch, from 0 .. 255 to 0 .. 1, as float32."""
        return np.divide(image, 255, dtype=np.float32)

    def restore(self, image: np.ndarray) -> np.ndarray:
        """Makes of what `preprocess` returned, augmented or not, a uint8 image to look at."""
        return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
