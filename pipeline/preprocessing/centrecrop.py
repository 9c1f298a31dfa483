"""Bringing pictures of any size to the size that a network takes, undistorted."""

import numpy as np

from pipeline.preprocessing.simplepreprocessor import SimplePreprocessor


class CentreCrop:
    """Cuts the largest part of the wanted proportions out of a picture's middle, and resizes it.

    Args:
        width: of the result, in pixels.
        height: of the result, in pixels.
        share: fraction of that part's sides that is kept.
    """

    def __init__(self, width: int, height: int, share: float = 1.0):
        self.width, self.height, self.share = width, height, share
        self._resize = SimplePreprocessor(width, height)

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Crops and resizes an image (height, width, channels) of any size."""
        height, width = image.shape[:2]
        cut_height = min(height, width * self.height / self.width)
        cut_width = min(width, height * self.width / self.height)
        cut_height, cut_width = (
            max(1, round(side * self.share)) for side in (cut_height, cut_width)
        )
        top, left = (height - cut_height) // 2, (width - cut_width) // 2
        return self._resize.preprocess(image[top : top + cut_height, left : left + cut_width])
