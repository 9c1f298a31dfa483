"""Images that stay on disk until they are asked for."""

import os
import weakref
from itertools import pairwise
from typing import BinaryIO

import numpy as np

from pipeline.errors import UserError


class HDF5Images:
    """The images of a contiguous data set, gathered by index like those of an array.

    They are read at their place in the file, bypassing HDF5 and without a memory map: a mapped file
    would fill the process's memory page by page, and ends it with SIGBUS should the file shrink.
    Any number of threads and forked processes can read at the same time.

    Args:
        file: the file, open for reading; may be closed afterwards.
        offset: where the first image begins, in bytes.
        shape: (n, height, width, channels), of uint8.

    Example:
        >>> images[np.array([5, 3, 4])].shape
        (3, 64, 64, 3)
    """

    def __init__(self, file: BinaryIO, offset: int, shape: tuple[int, int, int, int]):
        self.shape = shape
        self.dtype = np.dtype(np.uint8)
        self._name = file.name
        self._offset = offset
        self._image_bytes = int(np.prod(shape[1:]))
        self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Reads the images of the given indices, (k,), each from 0 to n - 1.

        Returns:
            uint8 (k, height, width, channels).

        Raises:
            IndexError: there is no image of an index.
            UserError: the file cannot be read, or has become shorter.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if not ((indices >= 0) & (indices < len(self))).all():
            raise IndexError(f"{self._name} has images 0 to {len(self) - 1}: asked for {indices}")
        images = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        # Consecutive images are read at once.
        starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1).tolist()
        for start, stop in pairwise([*starts, len(indices)]):
            self._read(images[start:stop], int(indices[start]))
        return images

    def _read(self, images: np.ndarray, index: int) -> None:
        place = self._offset + index * self._image_bytes
        rest = memoryview(images).cast("B")
        while rest:
            try:
                count = os.preadv(self._descriptor, [rest], place)
            except OSError as error:
                raise UserError(f"{self._name} cannot be read: {error.strerror}") from error
            if not count:
                raise UserError(f"{self._name} has become shorter since it was opened")
            rest, place = rest[count:], place + count
