"""The data sets that fit into memory, by name."""

import numpy as np

from pipeline.errors import UserError
from pipeline.io.cifar10 import read_cifar10
from pipeline.io.dataset import Dataset
from pipeline.io.digits import read_digits


def read_dataset(name: str, path: str | None = None) -> Dataset:
    """Reads a data set.

    Args:
        name: `cifar10` or `digits`.
        path: local copy; see `read_cifar10`.

    Raises:
        UserError: the data are missing or damaged, or a path is given for the digits.
        ValueError: there is no data set of that name.
    """
    if name == "cifar10":
        return read_cifar10(path)
    if name != "digits":
        raise ValueError(f"name must be cifar10 or digits, not {name!r}")
    if path:
        raise UserError(f"--data {path}: the digits come with scikit-learn; leave --data out")
    return read_digits()


def hold_out(data: Dataset, count: int) -> Dataset:
    """Puts training images in the place of the test images, the last ones of every class.

    Args:
        data: the data set.
        count: how many images, a multiple of the number of classes.

    Raises:
        ValueError: `count` is no multiple, or leaves no training images of a class.
    """
    each, rest = divmod(count, len(data.label_names))
    if rest or not 0 < each < np.bincount(data.train_labels).min():
        raise ValueError(f"{count} images cannot be held out of {len(data.train_labels)}")
    held = np.zeros(len(data.train_labels), dtype=bool)
    for label in range(len(data.label_names)):
        held[np.flatnonzero(data.train_labels == label)[-each:]] = True
    return Dataset(
        data.train_images[~held],
        data.train_labels[~held],
        data.train_images[held],
        data.train_labels[held],
        data.label_names,
    )
