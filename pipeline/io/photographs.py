"""Photographs of any size, which stay in their files until they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.errors import UserError
from pipeline.io.imagefiles import decoded, read_image_file
from pipeline.preprocessing.centrecrop import CentreCrop


@dataclass(frozen=True)
class Photograph:
    """A photograph in a file.

    Attributes:
        path: of the file.
        width, height: in pixels, as it is shown: turned as its EXIF data say.
    """

    path: str
    width: int
    height: int

    def decode(self, reduction: int = 1) -> np.ndarray:
        """Reads and decodes the file.

        Args:
            reduction: by how much a JPEG is made smaller, 1, 2, 4 or 8; see `decoded`.

        Returns:
            uint8 RGB, of this width and height, or of both divided by `reduction`, rounded up.

        Raises:
            UserError: the file cannot be read, is damaged, or is another picture by now.
        """
        image = decoded(self.path, self.content(), reduction)
        reduced = (-(-self.height // reduction), -(-self.width // reduction))
        if image.shape[:2] not in ((self.height, self.width), reduced):
            raise UserError(
                f"{self.path} has changed since it was looked at: it was {self.width}x"
                f"{self.height} pixels; start again, or go on from the newest checkpoint"
            )
        return image

    def content(self) -> bytes:
        """Reads the file.

        Raises:
            UserError: it cannot be read.
        """
        return read_image_file(self.path)


class Gathered(Protocol):
    """Photographs that are gathered by an array of indices, such as an array of objects.

    Attributes:
        dtype: of objects, unlike that of images.
    """

    dtype: np.dtype

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> np.ndarray: ...


class Photographs:
    """Photographs, gathered by index as images of one size, as a data set's are.

    The images are what `predict.py` makes of the files: the largest square in the middle of each,
    resized. For training, `files` lends them undecoded.

    Args:
        files: the photographs; a list, or what gathers them by an array of indices.
        size: width and height of the images, in pixels.
        centre: of that square, the share of its side that is in the image.

    Attributes:
        files: the photographs, gathered by index, (n,).
        shape: of the images, (n, size, size, 3).

    Example:
        >>> photographs[np.array([5, 3, 4])].shape
        (3, 128, 128, 3)
    """

    def __init__(self, files: list[Photograph] | Gathered, size: int, centre: float = 1.0):
        self.files: Gathered = files
        if isinstance(files, list):
            self.files = np.empty(len(files), dtype=object)
            self.files[:] = files
        self.shape = (len(files), size, size, 3)
        self._crop = CentreCrop(size, size, centre)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Decodes the photographs of the given indices, (k,).

        Returns:
            uint8 RGB (k, size, size, 3).

        Raises:
            UserError: a file cannot be decoded any more.
        """
        images = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        for image, photograph in zip(images, self.files[indices], strict=True):
            image[:] = self._crop.preprocess(photograph.decode())
        return images

    def subset(self, indices: np.ndarray) -> Photographs:
        """Returns the photographs of some indices."""
        return Photographs(self.files[indices], self.shape[1], self._crop.share)
