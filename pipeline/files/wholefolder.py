"""A folder that is there with all its files, or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.files.atomic import replace_durably
from pipeline.files.lock import LOCK, lock, real


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Lends a folder to write files to, and gives it its name once all are written and on disk.

    A folder of that name is replaced. Whenever a kill comes, the old files or the new ones are
    whole; if it comes in the instant between two renames, the old ones are in
    `.<name>.replaced`, and the next call brings them back.

    Args:
        path: the folder; the one that it is to be in exists.

    Yields:
        An empty folder beside it, which is removed if the `with` block raises.

    Raises:
        UserError: another process is writing the same folder.
        OSError: the folder cannot be written, or somebody has put a symbolic link beside it in the
            place of one of its own.
    """
    path = real(path)
    staging = path.with_name(f".{path.name}.unfinished")
    replaced = path.with_name(f".{path.name}.replaced")
    for own in (staging, replaced):
        if own.is_symlink():  # what lies behind it is not ours to remove
            raise OSError(errno.ELOOP, "it is a symbolic link: remove it", str(own))
    with lock(staging):
        if replaced.exists():  # a process was killed between its renames, or right after them
            if path.exists():
                shutil.rmtree(replaced)
            else:
                os.replace(replaced, path)
        try:
            _empty(staging)
            yield staging
            _flush(staging)
            if path.exists():
                os.replace(path, replaced)
            try:
                replace_durably(staging, path)
            except OSError:
                if replaced.exists():
                    os.replace(replaced, path)
                raise
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        (path / LOCK).unlink()  # until now it kept others out
        shutil.rmtree(replaced, ignore_errors=True)


def _empty(folder: Path) -> None:
    for left in folder.iterdir():  # by a process that was killed
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != LOCK:
            left.unlink()


def _flush(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for place in (*(os.path.join(parent, name) for name in names if name != LOCK), parent):
            opened = os.open(place, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
