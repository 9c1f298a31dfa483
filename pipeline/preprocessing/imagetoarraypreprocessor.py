"""Ordering of an image's axes as the backend's layers take them."""

from typing import Literal

import keras
import numpy as np


class ImageToArrayPreprocessor:
    """Turns images into float32 arrays with the channels where Keras expects them.

    Args:
        data_format: where they go; Keras's own setting, `keras.config.image_data_format()`, if
            left out.

    Raises:
        ValueError: there is no such data format.
    """

    def __init__(self, data_format: Literal["channels_last", "channels_first"] | None = None):
        self.data_format = data_format or keras.config.image_data_format()
        if self.data_format not in ("channels_last", "channels_first"):
            raise ValueError(
                f"data_format must be channels_last or channels_first, not {data_format!r}"
            )

    def preprocess(self, image: np.ndarray) -> np.ndarray:
        """Converts an image (height, width, channels), a grayscale one (height, width), or a batch.

        Returns:
            float32 (..., height, width, channels), or (..., channels, height, width); the argument
            itself if nothing is to be done.
        """
        array = np.asarray(image, dtype=np.float32)
        if array.ndim == 2:
            array = array[..., np.newaxis]
        if self.data_format == "channels_first":
            array = np.ascontiguousarray(np.moveaxis(array, -1, -3))
        return array
