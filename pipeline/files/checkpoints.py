"""A folder of checkpoints, `epoch_{N}.hdf5`, with the best one, `best.hdf5`.

Of an epoch under way there may be `epoch_{N}_plus_{M}_batches.hdf5`, N epochs being completed.
"""

import re
import sys
from pathlib import Path

from pipeline.errors import UserError, one_line
from pipeline.files.modelfile import Checkpoint, read_checkpoint

ABANDONED = "abandoned_"  # prefix of the folders where checkpoints of a branch that was left go

_NAME = re.compile(r"epoch_(\d+)(?:_plus_(\d+)_batches)?\.hdf5")


def checkpoint_path(folder: Path, epoch: int, batch: int = 0) -> Path:
    """Returns where the checkpoint after so many epochs, and batches of the next, lies."""
    return folder / (f"epoch_{epoch}_plus_{batch}_batches.hdf5" if batch else f"epoch_{epoch}.hdf5")


def best_path(folder: Path) -> Path:
    """Returns where the checkpoint of the highest validation accuracy lies."""
    return folder / "best.hdf5"


def checkpoints(folder: Path) -> dict[tuple[int, int], Path]:
    """Returns a folder's checkpoints by completed epochs and batches after them, latest first."""
    files = folder.iterdir() if folder.is_dir() else ()
    matches = {file: _NAME.fullmatch(file.name) for file in files}
    found = {(int(m[1]), int(m[2] or 0)): file for file, m in matches.items() if m}
    return dict(sorted(found.items(), reverse=True))


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Returns the latest whole checkpoint of a folder, None where it has none at all.

    Damaged ones are passed over with a line that says so.

    Raises:
        UserError: the folder has checkpoints, and all are damaged.
    """
    damage = None
    for path in checkpoints(folder).values():
        try:
            checkpoint = read_checkpoint(path)
        except UserError as error:
            warning = one_line(f"warning: {error}; falling back to the one before")
            print(warning, file=sys.stderr)
            damage = error
        else:
            return checkpoint
    if damage:
        raise UserError(
            f"{folder} has no intact checkpoint; the oldest: {damage}{_way_out(folder)}"
        )
    return None


def _way_out(folder: Path) -> str:
    try:
        best = read_checkpoint(best_path(folder))
    except UserError:
        return ""
    name = checkpoint_path(folder, best.epoch).name
    return f"; {best.path} is intact: copy it to {name} to continue from there"
