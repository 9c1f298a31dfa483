"""scikit-learn's handwritten digits: a data set for trying things out, without any download."""

import cv2
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pipeline.errors import UserError
from pipeline.io.dataset import Dataset

SIZE = 32


def read_digits(path: str | None = None, skip_bad: bool = False) -> Dataset:
    """Reads the 1,797 digits of 8x8 pixels that come with scikit-learn as 32x32 RGB images.

    Args:
        path: none may be given; other data sets are read from there.
        skip_bad: for other data sets; all digits can be used.

    Returns:
        1,437 training and 360 test images, split stratified and always alike.

    Raises:
        UserError: a path is given.
    """
    if path:
        raise UserError(f"{path}: the digits come with scikit-learn and are read from nowhere else")
    digits = load_digits()
    images = np.empty((len(digits.images), SIZE, SIZE, 3), dtype=np.uint8)
    for image, digit in zip(images, digits.images, strict=True):
        # The digits' pixels are counts from 0 to 16.
        gray = np.rint(digit * (255 / 16)).astype(np.uint8)
        image[:] = cv2.resize(gray, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)[..., None]
    train_images, val_images, train_labels, val_labels = train_test_split(
        images,
        digits.target.astype(np.int32),
        test_size=0.2,
        stratify=digits.target,
        random_state=42,
    )
    names = tuple(str(name) for name in digits.target_names)
    return Dataset(
        train_images,
        train_labels,
        val_images,
        val_labels,
        names,
        may_be_mirrored=False,
        val_part="test set",
    )
