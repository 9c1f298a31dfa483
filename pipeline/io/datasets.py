"""The data sets that fit into memory, by name."""

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
