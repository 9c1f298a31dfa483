"""The data sets that fit into memory, by name."""

import numpy as np
from sklearn.model_selection import train_test_split

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
    """Puts training images in the place of the test images, drawn at random and always alike.

    At random, since files in the order of their names have like pictures side by side.

    Args:
        data: the data set.
        count: how many images, of every class its share.

    Raises:
        UserError: not every class would have images on both sides.
    """
    labels = data.train_labels
    try:
        parts = train_test_split(
            np.arange(len(labels)), test_size=count, stratify=labels, random_state=42
        )
    except ValueError as error:
        raise UserError(
            f"the recipe's holdout of {count} cannot be taken from {len(labels)} training images "
            f"({error})"
        ) from error
    kept, held = map(np.sort, parts)
    return Dataset(
        data.train_images[kept],
        data.train_labels[kept],
        data.train_images[held],
        data.train_labels[held],
        data.label_names,
    )
