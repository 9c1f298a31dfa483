"""Files that belong together: all of them are new, or none is."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files.atomic import replace_durably
from pipeline.files.lock import lock

STAGING = ".unfinished"


@contextmanager
def published_together(
    folder: Path, names: Sequence[str], overwrite: bool = False
) -> Iterator[Path]:
    """Lends a folder to write files to, and moves them to `folder` once all are written.

    Old files of these names are removed before the first new one comes, so that no kill can leave
    new files beside old ones.

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
        old = [folder / name for name in names if (folder / name).exists()]
        if old and not overwrite:
            raise UserError(f"{old[0]} exists already: replace it with --overwrite")
        staging = folder / STAGING
        if staging.exists():
            shutil.rmtree(staging)  # left by a process that was killed
        staging.mkdir()
        try:
            yield staging
            for path in old:
                path.unlink()
            for name in names:
                replace_durably(staging / name, folder / name)
        finally:
            shutil.rmtree(staging)
