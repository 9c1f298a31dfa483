"""HDF5 files whose largest data set, at their end, is written as it comes."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np

from pipeline.errors import UserError
from pipeline.files.atomic import open_anew, replace_durably, temporary_of


class HDF5Stream:
    """Such a file under its temporary name, until it is whole.

    HDF5 itself only lays out the header, in memory: if it wrote the file, a full disk would crash
    the process at its exit. The header is written last, in front of the data; until then the file
    is not an HDF5 file at all.

    Args:
        path: the file to create.

    Attributes:
        path: as above.
        file: the temporary one, open for writing and reading.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self._temporary = temporary_of(path)
        with self.errors_named():
            self.file = open_anew(self._temporary)

    def finish(self, complete: Callable[[BinaryIO], None]) -> None:
        """Completes the file, waits until it is on disk and gives it its name, or else removes it.

        Args:
            complete: writes what is still missing.

        Raises:
            UserError: the file cannot be written.
        """
        try:
            with self.errors_named():
                complete(self.file)
                self.file.flush()
                os.fsync(self.file.fileno())
                self.file.close()
                replace_durably(self._temporary, self.path)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Removes the file."""
        with suppress(OSError):  # a full disk, once more
            self.file.close()
        self._temporary.unlink(missing_ok=True)

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """Raises a `UserError` with the file's name for whatever keeps it from being written."""
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror}") from error


def head_of(name: str, shape: tuple[int, ...], add: Callable[[h5py.File], None]) -> bytes:
    """Returns an HDF5 file as the library makes it, up to where its last data set's data begin.

    Args:
        name: of the last data set, uint8, contiguous and uncompressed.
        shape: of it.
        add: puts everything else into the file.
    """
    buffer = io.BytesIO()
    # The earliest format keeps all that describes the data in front of them.
    with h5py.File(buffer, "w", libver="earliest") as file:
        add(file)
        at_once = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        at_once.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        at_once.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        last = file.create_dataset(name, shape, np.uint8, dcpl=at_once)
        offset = last.id.get_offset()
    head = buffer.getvalue()
    assert len(head) == offset, f"HDF5 has put something after {name}"
    return head
