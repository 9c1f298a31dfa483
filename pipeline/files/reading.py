"""Opening a file that others may have put there: a regular file, and of no more than so many bytes.

A pipe or a device in its place would keep the reader waiting, or give bytes without an end.
"""

import errno
import os
import stat
from typing import BinaryIO

from pipeline.errors import UserError

TEXT_BYTES_LIMIT = 2**26  # the longest list of a data set has a few MB


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Opens a regular file for reading; links to one are followed.

    Raises:
        OSError: there is no such file, it cannot be read, or it is a folder, a pipe, a device or
            a socket.
    """
    return open(path, "rb", opener=open_descriptor)


def read_regular(path: str | os.PathLike, most_bytes: int) -> bytes:
    """Returns the content of a regular file.

    Args:
        path: the file.
        most_bytes: how long it may be.

    Raises:
        OSError: see `open_regular`, or the file is longer.
    """
    descriptor = open_descriptor(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size > most_bytes:
            raise OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes", str(path))
        blocks = []
        while size and (block := os.read(descriptor, size)):
            blocks.append(block)
            size -= len(block)
        return b"".join(blocks)
    finally:
        os.close(descriptor)


def read_lines(path: str | os.PathLike) -> list[str]:
    """Returns the lines of a text file, UTF-8 with or without its mark, but for the empty ones.

    Raises:
        UserError: it is not a text file, or cannot be read; see `read_regular`.
    """
    try:
        text = read_regular(path, TEXT_BYTES_LIMIT).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file") from error
    return [line for line in text.splitlines() if line.strip()]


def open_descriptor(path: str | os.PathLike, flags: int) -> int:
    """Opens a regular file by the system's flags, as an opener of `open`; see `open_regular`."""
    # Without O_NONBLOCK this would wait for the other end of a pipe.
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    try:
        _refuse_special(descriptor, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_special(descriptor: int, path: str | os.PathLike) -> None:
    """Raises an OSError if an open file is a folder, a pipe, a device or a socket."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a device or a socket", str(path))
