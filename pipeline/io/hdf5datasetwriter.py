"""Writing labelled images into an HDF5 file from which they can be read at random."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import h5py
import numpy as np

from pipeline.errors import UserError
from pipeline.files.hdf5stream import HDF5Stream, head_of
from pipeline.files.seal import seal

# The files that the parts of a data set are written to.
FILES = {"train": "train.hdf5", "val": "val.hdf5", "test": "test.hdf5"}
MEAN_JSON = "mean.json"  # the mean colour, which stands beside them for people

# Names in such a file.
IMAGES = "images"
LABELS = "labels"
LABEL_NAMES = "label_names"
COMPLETE = "complete"
ORIGIN = "origin"
MEAN = "mean"


class Origin(NamedTuple):
    """What a file is of, so that it is not taken for another."""

    split: str
    """Name of its part of the data set, which is the file's as well: `train` in `train.hdf5`."""
    build: str
    """What is alike in the files that were built together, and only in those."""


class HDF5DatasetWriter:
    """Writes images and labels under a temporary name, and renames the file once it is whole.

    The file holds `images`, uint8 (n, height, width, channels), colours in the order red, green,
    blue; `labels`, int32 (n,); `label_names`, UTF-8 (classes, 2), each class's id and words; and
    the attribute `complete`. With an origin it holds the attribute `origin`, its texts, and `mean`,
    float64 (3,), the training images' red, green and blue. All are contiguous and uncompressed, the
    images at the end, so that they can be written and read with plain system calls; after them
    comes the file's seal.

    To be used in a `with` statement: its end closes the file, an exception removes it.

    Args:
        dims: shape of `images`.
        path: the file to create.
        label_names: id and words of each class, in the order of the labels.
        origin: what the file is of.

    Attributes:
        mean: to be set before the end where there is an origin.

    Raises:
        UserError: the file exists already, or it cannot be written.

    Example:
        >>> with HDF5DatasetWriter((2, 64, 64, 3), "two.hdf5", [("n1", "cat")]) as writer:
        ...     writer.add(np.zeros((2, 64, 64, 3), np.uint8), [0, 0])
    """

    def __init__(
        self,
        dims: tuple[int, int, int, int],
        path: str | Path,
        label_names: Sequence[tuple[str, str]],
        origin: Origin | None = None,
    ):
        self.path = Path(path)
        if self.path.exists():
            raise UserError(f"{self.path} exists already: remove it or choose another name")
        self._dims = dims
        self._label_names = label_names
        self._origin = origin
        self.mean = np.full(3, np.nan)
        self._labels = np.zeros(dims[0], dtype=np.int32)
        self._written = 0
        self._stream = HDF5Stream(self.path)
        self._stream.file.seek(len(self._header()))

    def __enter__(self) -> "HDF5DatasetWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._stream.abandon()

    def add(self, images: np.ndarray, labels: Sequence[int]) -> None:
        """Appends images, uint8 (k, height, width, channels), and their labels, (k,).

        Raises:
            ValueError: types, shapes or labels are not the file's, or it has not so many rows.
            UserError: the file cannot be written; the disk is full, for example.
        """
        labels = np.asarray(labels)
        if labels.dtype.kind not in "iu":  # 0.9 would become 0
            raise ValueError(f"{self.path} takes whole numbers as labels: got {labels.dtype}")
        if images.dtype != np.uint8 or images.shape[1:] != self._dims[1:]:
            raise ValueError(
                f"{self.path} takes uint8 images of {self._dims[1:]}: "
                f"got {images.dtype} of {images.shape[1:]}"
            )
        classes = len(self._label_names)
        if labels.shape != images.shape[:1] or not ((labels >= 0) & (labels < classes)).all():
            raise ValueError(
                f"{len(images)} images need as many labels below {classes}: got {labels}"
            )
        if (end := self._written + len(images)) > self._dims[0]:
            raise ValueError(f"{self.path} has {self._dims[0]} rows: got {end}")
        with self._stream.errors_named():
            self._stream.file.write(np.ascontiguousarray(images))
        self._labels[self._written : end] = labels
        self._written = end

    def close(self) -> None:
        """Completes the file, waits until it is on disk, and renames it.

        Raises:
            ValueError: rows are missing; the file was removed.
            UserError: the file could not be written and was removed.
        """
        self._stream.finish(self._complete)

    def _complete(self, file: BinaryIO) -> None:
        if self._written < self._dims[0]:
            raise ValueError(f"{self.path} got {self._written} of its {self._dims[0]} rows")
        size = file.tell()
        file.seek(0)
        file.write(self._header())
        file.write(seal(file, size))

    def _header(self) -> bytes:
        """Returns the file as HDF5 makes it, up to where the images begin."""
        return head_of(IMAGES, self._dims, self._describe)

    def _describe(self, file: h5py.File) -> None:
        file.attrs[COMPLETE] = True
        file[LABELS] = self._labels
        names = np.char.encode(np.array(self._label_names), "utf-8")
        utf8 = h5py.string_dtype("utf-8", names.dtype.itemsize)
        file[LABEL_NAMES] = names.astype(utf8)
        if self._origin:
            file.attrs[ORIGIN] = np.char.encode(np.array(self._origin), "utf-8")
            file[MEAN] = np.asarray(self.mean, dtype=np.float64)
