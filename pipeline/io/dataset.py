"""What every data set of images in memory comes as."""

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """A data set split into training and test images.

    Images are uint8 (n, height, width, 3) in RGB order, labels are int32 (n,).
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    label_names: tuple[str, ...]
    """The classes' names, by label."""
