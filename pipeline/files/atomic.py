"""Replacing a file so that a kill or a power cut leaves the old or the new one, never half."""

import errno
import os
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: str | os.PathLike, data: bytes | str) -> None:
    """Writes `data` to a temporary file beside `path`, flushes it to disk and renames it.

    The temporary name is always the same, so that what a kill leaves behind is overwritten by the
    next write instead of piling up.

    Args:
        path: the file to create or replace.
        data: its whole content; text is encoded as UTF-8.

    Raises:
        OSError: the data could not be written; `path` is as it was.
    """
    path = Path(path)
    temporary = temporary_of(path)
    try:
        with open_anew(temporary) as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        replace_durably(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        # A full disk does not say by itself which file it had no room for.
        raise OSError(error.errno, error.strerror, str(path)) from error


def open_anew(path: Path) -> BinaryIO:
    """Opens a new file for writing and reading, in the place of what a kill has left there.

    A link in that place, which somebody else may have put there, is removed and not followed.

    Raises:
        OSError: the folder cannot be written, or a folder is in that place.
    """
    try:
        return open(path, "x+b")
    except FileExistsError:
        path.unlink()
        return open(path, "x+b")


def discard_unfinished(path: Path) -> None:
    """Removes what a kill amid `write_atomically` has left, for where nothing writes it again."""
    temporary_of(path).unlink(missing_ok=True)


def temporary_of(path: Path) -> Path:
    """Returns where what is to become a file is written first.

    Raises:
        OSError: a file cannot have this path, such as "." or "/".
    """
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return path.with_name(f".{path.name}.tmp")


def replace_durably(source: Path, target: Path) -> None:
    """Renames a file, over another if there is one, and waits until the new name is on disk."""
    os.replace(source, target)
    flush_folder(target.parent)


def flush_folder(folder: Path) -> None:
    """Waits until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
