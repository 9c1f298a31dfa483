"""One process at a time in a folder."""

import errno
import fcntl
import os
from pathlib import Path
from typing import TextIO

from pipeline.errors import UserError
from pipeline.files.reading import open_descriptor

LOCK = ".lock"


def real(folder: Path) -> Path:
    """Returns a folder by its one real name, to tell whether it is locked already."""
    return Path(os.path.realpath(folder))  # Path.resolve() raises RuntimeError on a loop of links


def lock(folder: Path, name: str = LOCK, shared: bool = False) -> TextIO:
    """Makes a folder, and a lock in it that the system lifts when the process ends, however.

    Whatever others may have put in the lock's place is neither followed nor changed.

    Args:
        folder: made where it is missing.
        name: of the lock, for one on something else than the whole folder.
        shared: whether others may hold it as well who share it.

    Returns:
        A file; while it is open, the lock is held.

    Raises:
        UserError: another process holds the lock, or `folder` is none.
        OSError: the folder cannot be written, its file system has no locks, or something else than
            a file is in the lock's place.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{folder} is not a folder: choose another") from error
    # A lock that is shared may be another user's file, for others only to read.
    file = open(folder / name, "r" if shared else "r+", opener=_open)  # noqa: SIM115 (not closed)
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UserError(
            f"{folder if name == LOCK else folder / name} is in use by another process: wait for "
            "it, or choose another folder"
        ) from error
    return file


def lock_before_reading(folder: Path, locks: dict[Path, TextIO]) -> None:
    """Locks a folder before it is read, lest another process write there afterwards.

    Args:
        folder: not made, and so not locked, where it is missing.
        locks: those held, by folder; this one's is added unless it is among them.

    Raises:
        UserError, OSError: as from `lock`.
    """
    folder = real(folder)
    if folder not in locks and folder.is_dir():
        locks[folder] = lock(folder)


def _open(path: str, flags: int) -> int:
    try:
        return open_descriptor(path, flags | os.O_CREAT | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "it is a symbolic link: remove it", path) from error
        raise
