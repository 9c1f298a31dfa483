"""One process at a time in a folder."""

import fcntl
from pathlib import Path
from typing import TextIO

from pipeline.errors import UserError


def lock(folder: Path) -> TextIO:
    """Makes a folder, and a lock in it that the system lifts when the process ends, however.

    Returns:
        A file; while it is open, the lock is held.

    Raises:
        UserError: another process holds the lock.
        OSError: the folder cannot be written, or its file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = open(folder / ".lock", "w")  # noqa: SIM115 (the caller closes it, or the system)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UserError(
            f"{folder} is in use by another process: wait for it, or choose another folder"
        ) from error
    return file
