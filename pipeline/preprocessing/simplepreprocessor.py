"""Resizing of images to the size that a network takes."""

import cv2
import numpy as np


class SimplePreprocessor:
    """Resizes images to a fixed size, whatever their aspect ratio.

    Args:
        width: of the result, in pixels.
        height: of the result, in pixels.
        interpolation: OpenCV's; if left out, area averaging for images that are made smaller, and
            linear for those that are not, of which area averaging would only repeat pixels.

    Raises:
        ValueError: a size is below 1.
    """

    def __init__(self, width: int, height: int, interpolation: int | None = None):
        if min(width, height) < 1:
            raise ValueError(f"width and height start at 1: got {width}x{height}")
        self.width, self.height, self.interpolation = width, height, interpolation

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Resizes an image (height, width, channels), or every image of a batch.

        Returns:
            An array of the same type and number of axes; the argument itself if it has the size.
        """
        *batch, height, width, channels = image.shape
        if (height, width) == (self.height, self.width):
            return image
        interpolation = self.interpolation
        if interpolation is None:
            smaller = height >= self.height and width >= self.width
            interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        resized = np.empty((*batch, self.height, self.width, channels), dtype=image.dtype)
        for index in np.ndindex(*batch):
            target = cv2.resize(
                image[index], (self.width, self.height), interpolation=interpolation
            )
            resized[index] = target.reshape(resized.shape[-3:])  # OpenCV drops a single channel
        return resized
