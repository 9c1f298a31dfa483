"""Files that belong together: all of them are new, or all are old.

In the folder lie links, `train.hdf5` to `.current/train.hdf5`, and `.current` is a link to the
folder `.files_N` that holds the files. So one rename, that of a new `.current`, replaces them all.
A file system without links gets the files themselves, moved one at a time: there a kill can leave
some of them missing, but never new ones beside old ones, until the next start moves the rest.
"""

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files.atomic import discard_unfinished, flush_folder, replace_durably, temporary_of
from pipeline.files.lock import lock

STAGING = ".unfinished"  # being written
COMPLETE = ".complete"  # whole and on disk, about to be published
CURRENT = ".current"
FILES = ".files_"


@contextmanager
def published_together(
    folder: Path, names: Sequence[str], overwrite: bool = False
) -> Iterator[Path]:
    """Lends a folder to write files to, and publishes them in `folder` once all are written.

    At every instant all files of these names are old or all are new, or there are none; see above
    for file systems without links. What a kill leaves of unfinished files goes with the next start.

    Args:
        folder: where the files go; made if it does not exist.
        names: of the files that the `with` block writes.
        overwrite: whether old files of these names may be replaced.

    Yields:
        An empty folder on the same file system.

    Raises:
        UserError: a file exists and may not be replaced, or another process writes to `folder`.
        OSError: `folder` cannot be written.
    """
    with lock(folder):
        _finish(folder, names)
        old = [folder / name for name in names if (folder / name).exists()]
        if old and not overwrite:
            raise UserError(
                f"{old[0]} exists already: --overwrite replaces it, or name another folder"
            )
        _tidy(folder, names)
        staging = folder / STAGING
        staging.mkdir()
        try:
            yield staging
            replace_durably(staging, folder / COMPLETE)
            _finish(folder, names)
        finally:
            _remove(staging)


def finish_interrupted(folder: Path, names: Sequence[str]) -> bool:
    """Publishes files that were all written when a kill came; tells whether there were any.

    Raises:
        UserError: another process writes to `folder`.
        OSError: `folder` cannot be written.
    """
    if not folder.is_dir():
        return False
    with lock(folder):
        return _finish(folder, names)


def _finish(folder: Path, names: Sequence[str]) -> bool:
    complete = folder / COMPLETE
    if complete.is_symlink() or not complete.is_dir():
        return False
    try:
        _link(folder, names, complete)
    except OSError:  # there are no links on this file system
        _move(folder, names, complete)
    _tidy(folder, names)
    return True


def _link(folder: Path, names: Sequence[str], complete: Path) -> None:
    if any(_is_other(folder / name) for name in names):
        # Of an earlier version: first they become links, to themselves.
        kept = _unused(folder)
        kept.mkdir()
        for name in names:
            if (folder / name).exists():
                os.link((folder / name).resolve(), kept / name)
        flush_folder(kept)
        _point(folder / CURRENT, kept.name)
    for name in names:
        if not _is_ours(folder / name):
            _point(folder / name, f"{CURRENT}/{name}")
    files = _unused(folder)
    replace_durably(complete, files)
    try:
        _point(folder / CURRENT, files.name)
    except OSError:
        replace_durably(files, complete)
        raise


def _move(folder: Path, names: Sequence[str], complete: Path) -> None:
    for name in names:
        if (complete / name).exists():  # else it was moved before a kill
            (folder / name).unlink(missing_ok=True)
    for name in names:
        if (complete / name).exists():
            replace_durably(complete / name, folder / name)
    _remove(folder / CURRENT)
    complete.rmdir()


def _is_ours(path: Path) -> bool:
    return path.is_symlink() and os.readlink(path) == f"{CURRENT}/{path.name}"


def _is_other(path: Path) -> bool:
    return path.exists() and not _is_ours(path)


def _point(link: Path, target: str) -> None:
    discard_unfinished(link)
    os.symlink(target, temporary_of(link))
    replace_durably(temporary_of(link), link)


def _unused(folder: Path) -> Path:
    paths = (folder / f"{FILES}{number}" for number in itertools.count(1))
    return next(path for path in paths if not os.path.lexists(path))


def _tidy(folder: Path, names: Sequence[str]) -> None:
    # Removes what no link leads to: older files, and what a kill has left.
    current = folder / CURRENT
    target = os.readlink(current) if current.is_symlink() else None
    for name in (STAGING, COMPLETE):
        _remove(folder / name)
    for name in (*names, CURRENT):
        discard_unfinished(folder / name)
    for path in folder.glob(f"{FILES}[0-9]*"):
        if path.name != target:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
