"""Reading labelled images at random from an HDF5 file that may be larger than memory."""

from __future__ import annotations

import math
import os
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from pipeline.errors import UserError
from pipeline.files.hdf5members import DAMAGE, own_member, own_texts
from pipeline.files.reading import open_regular
from pipeline.files.seal import is_sealed
from pipeline.io.dataset import Dataset
from pipeline.io.hdf5datasetwriter import (
    COMPLETE,
    FILES,
    IMAGES,
    LABEL_NAMES,
    LABELS,
    MEAN,
    MEAN_JSON,
    ORIGIN,
    Origin,
)
from pipeline.io.hdf5images import HDF5Images
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor


def read_hdf5_dataset(folder: str) -> Dataset:
    """Opens the HDF5 files of a data set, to train on `train` and to validate on `val`.

    Args:
        folder: holds them; see `build_tiny_imagenet.py`.

    Raises:
        UserError: a file is missing or damaged, or the two differ in size of image, classes, mean
            or build.
    """
    train, val = (HDF5DatasetGenerator(Path(folder) / FILES[part]) for part in ("train", "val"))
    mean = mean_beside(train)
    for what, same in (
        ("size of image", train.size == val.size),
        ("set of classes", train.label_names == val.label_names),
        ("mean", np.array_equal(mean, mean_beside(val))),
        ("build", train.build == val.build),
    ):
        if not same:
            raise UserError(f"{val.path} has another {what} than {train.path}: build them again")
    return Dataset(
        train.images,
        train.labels,
        val.images,
        val.labels,
        train.class_names,
        mean,
        fingerprint=train.build and sha256(train.build.encode() + mean.tobytes()).hexdigest(),
    )


def mean_beside(data: HDF5DatasetGenerator) -> np.ndarray:
    """Returns a file's mean colour, float32 (3,); for a file of an earlier build, of its JSON."""
    if data.mean is not None:
        return data.mean
    return MeanPreprocessor.from_json(data.path.with_name(MEAN_JSON)).mean


class HDF5DatasetGenerator:
    """Opens a file of `HDF5DatasetWriter` and checks it.

    Args:
        path: the file.

    Attributes:
        images: uint8 RGB (n, size, size, 3), left on disk until they are asked for.
        labels: int32 (n,).
        label_names: id and words of each class, by label.
        mean: the training images' red, green and blue, float32 (3,); None in files of earlier
            builds.
        build: what is alike in the files that were built together; None in those files.

    Raises:
        UserError: the file is missing, unfinished or damaged, keeps its data elsewhere, has images
            that are not square or labels out of range; it holds another split than its name says,
            or is not of the build of the `mean.json` beside it.

    Example:
        >>> train = HDF5DatasetGenerator("train.hdf5")
        >>> batches = TrainingBatches(train.images, train.labels, 64, [RandomFlip()], seed=42)
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            with open_regular(self.path) as file:
                if not is_sealed(file):
                    raise self._damaged("it is truncated, damaged or not written by this project")
                with h5py.File(file, "r") as hdf5:
                    self._read(file, hdf5)
        except FileNotFoundError as error:
            raise UserError(
                f"{self.path}: there is no such file; build_tiny_imagenet.py makes it"
            ) from error
        except OSError as error:
            if error.filename is None:
                raise self._damaged("it is truncated, or not an HDF5 file") from error
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        except DAMAGE as error:
            raise self._damaged(str(error)) from error

    @property
    def size(self) -> int:
        """How many pixels wide and high the images are."""
        return self.images.shape[1]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The first of each class's words, by label."""
        return tuple(words.split(",")[0] for _, words in self.label_names)

    def _read(self, file: BinaryIO, hdf5: h5py.File) -> None:
        if not hdf5.attrs.get(COMPLETE, False):
            raise self._damaged("it is unfinished")
        file_bytes = os.fstat(file.fileno()).st_size
        images, labels, names = (
            own_member(hdf5, name, h5py.Dataset) for name in (IMAGES, LABELS, LABEL_NAMES)
        )

        square = images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
        if not square or images.dtype != np.uint8 or not images.shape[0]:
            raise UserError(
                f"{self.path} holds {images.dtype} images of shape {images.shape} instead of "
                "uint8 (n, size, size, 3)"
            )
        offset = images.id.get_offset()
        if offset is None or offset + math.prod(images.shape) > file_bytes:
            raise self._damaged("its images lie outside it")
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise self._damaged(f"its labels are {labels.dtype} {labels.shape}")
        if names.ndim != 2 or names.shape[1] != 2 or names.dtype.kind != "S":
            raise self._damaged(f"its label_names are {names.dtype} {names.shape}")
        ids = labels[:]
        if ids.min() < 0 or ids.max() >= len(names):
            raise UserError(
                f"{self.path} has labels from {ids.min()} to {ids.max()} "
                f"instead of 0 to {len(names) - 1}"
            )

        self.mean, self.build = self._read_origin(hdf5)
        self.images = HDF5Images(file, offset, images.shape)
        self.labels = ids.astype(np.int32)
        self.label_names = tuple((name.decode(), words.decode()) for name, words in names[:])

    def _read_origin(self, hdf5: h5py.File) -> tuple[np.ndarray | None, str | None]:
        texts = own_texts(hdf5, ORIGIN)
        if texts is None:
            return None, None
        origin = Origin(*texts)
        mean = own_member(hdf5, MEAN, h5py.Dataset)
        if mean.dtype != np.float64 or mean.shape != (3,) or not np.isfinite(mean[:]).all():
            raise self._damaged(f"its mean is {mean.dtype} {mean.shape}")
        if self.path.stem != origin.split:
            raise UserError(
                f"{self.path} holds the images of {origin.split}{self.path.suffix}: build it again"
            )
        mean = mean[:].astype(np.float32)
        beside = self.path.with_name(MEAN_JSON)
        if beside.exists():
            json = MeanPreprocessor.from_json(beside)
            if json.build != origin.build or not np.array_equal(json.mean, mean):
                raise UserError(
                    f"{self.path} and {beside.name} beside it are not of one build, or the latter "
                    "is damaged: build them again"
                )
        return mean, origin.build

    def _damaged(self, reason: str) -> UserError:
        return UserError(f"{self.path} cannot be used ({reason}): build it again")
