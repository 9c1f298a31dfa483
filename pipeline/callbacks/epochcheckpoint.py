"""Checkpoints from which training goes on exactly as if it had never stopped."""

import math
import os
import time
from contextlib import suppress
from pathlib import Path

import keras

from pipeline.callbacks.divergenceguard import not_finite
from pipeline.errors import UserError, one_line
from pipeline.files.atomic import replace_durably, temporary_of, write_atomically
from pipeline.files.checkpoints import (
    ABANDONED,
    best_path,
    checkpoint_path,
    checkpoints,
)
from pipeline.files.modelfile import read_checkpoint, save_checkpoint
from pipeline.history import History


class EpochCheckpoint(keras.callbacks.Callback):
    """Writes `epoch_{N}.hdf5` after every epoch, keeps every `every`-th, and `best.hdf5`.

    A checkpoint, of a `Classifier`, holds its weights and averages, all variables of its optimizer,
    epoch, history and options, and is written atomically. The latest epoch's is always there; it is
    removed once a later one is on disk, unless it is one of those to keep or the one that the run
    was resumed from.
    `best.hdf5` is the checkpoint with the highest `val_accuracy` that the folder has seen.

    Amid an epoch that takes longer than `minutes`, and whenever `save_under_way` is called, there
    is one of the epochs so far and the batches after them, in the place of the last such one. It
    holds the weights that are trained, where the others hold the averages, if there are any.

    A run that starts from an earlier epoch than the folder's latest moves the later checkpoints to
    a subfolder `abandoned_1` (or 2, 3, ...), so that the newest is always the run's own.

    Args:
        output_path: the folder; it is made where it is missing.
        every: which epochs' checkpoints stay: multiples of this number.
        start_at: epochs already trained.
        history: of the run; whoever keeps it adds each epoch before this callback hears of its end.
            Without one, checkpoints have none, and there is no `best.hdf5`.
        options: of the run, JSON-able; stored in every checkpoint.
        start_batch: batches already trained of the next epoch.
        minutes: from one checkpoint to the next within an epoch.
        writes: whether this process writes; if not, another one does it.

    Attributes:
        path: of the last checkpoint that was written; None if there is none yet.
        batch: how many batches it is after the last completed epoch.
    """

    def __init__(
        self,
        output_path: str | Path,
        every: int = 5,
        start_at: int = 0,
        history: History | None = None,
        options: dict | None = None,
        start_batch: int = 0,
        minutes: float = math.inf,
        writes: bool = True,
    ):
        super().__init__()
        self.output_path = Path(output_path)
        self.every = every
        self.epoch = start_at
        self.history = {} if history is None else history
        self.options = options or {}
        self.path: Path | None = None
        self.batch = 0
        self._start, self._start_batch = start_at, start_batch
        self._seconds = 60 * minutes
        self._writes = writes
        self._best: float | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Reads the score that a new best checkpoint has to beat."""
        if not self._writes:
            return
        self.output_path.mkdir(parents=True, exist_ok=True)
        for left in self.output_path.glob(".epoch_*_plus_*_batches.hdf5.tmp"):
            left.unlink()  # by a kill; another time the number of batches may be another
        self._best = _best_accuracy(self.output_path)
        resumed = checkpoint_path(self.output_path, self._start)
        if resumed.exists():
            self._keep_if_best(resumed)  # a kill may have come between the checkpoint and the copy

    def put_later_aside(self) -> None:
        """Moves away the checkpoints of the epochs that this run trains anew.

        Called once the first of them has ended: by `on_epoch_end`, and before it by whoever writes
        other files of that epoch, which a kill could leave at odds with the newest checkpoint.
        """
        if self._writes and self.path is None:
            _abandon_later(self.output_path, self._start, self._start_batch)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the clock."""
        self._saved = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Writes a checkpoint if it is time to."""
        if time.monotonic() - self._saved >= self._seconds and batch + 1 < self.params["steps"]:
            self.save_under_way(batch + 1)

    def save_under_way(self, batch: int) -> None:
        """Writes the checkpoint of an epoch after so many of its batches."""
        self._saved = time.monotonic()
        if not self._writes or not_finite(self.model) is not None:  # it will not end well
            return
        self.put_later_aside()
        self._save(batch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the checkpoint of the epoch that has just ended."""
        self.put_later_aside()
        previous, self.epoch = self.epoch, self.epoch + 1
        if not self._writes:
            return
        self._save()
        # Where it is not the one to keep, nor the one that the run was resumed from.
        if previous % self.every and (previous, 0) != (self._start, self._start_batch):
            checkpoint_path(self.output_path, previous).unlink(missing_ok=True)
        self._keep_if_best(self.path)

    def _save(self, batch: int = 0) -> None:
        path = checkpoint_path(self.output_path, self.epoch, batch)
        state = {"epoch": self.epoch, "history": self.history, "options": self.options}
        save_checkpoint(path, self.model, state | ({"batch": batch} if batch else {}))
        self.path, self.batch = path, batch
        for (_, batches), earlier in checkpoints(self.output_path).items():
            if batches and earlier != path:
                earlier.unlink()

    def _keep_if_best(self, path: Path) -> None:
        accuracy = self.history.get("val_accuracy", [])
        if accuracy and (self._best is None or accuracy[-1] > self._best):
            self._best = accuracy[-1]
            _replace_by_copy(path, best_path(self.output_path))


def _best_accuracy(folder: Path) -> float | None:
    try:
        return read_checkpoint(best_path(folder)).history["val_accuracy"][-1]
    except (UserError, KeyError, IndexError):  # none yet, or damaged: the next epoch makes one
        return None


def _abandon_later(folder: Path, epoch: int, batch: int) -> None:
    later = [path for place, path in checkpoints(folder).items() if place > (epoch, batch)]
    if not later:
        return
    number = 1
    while (aside := folder / f"{ABANDONED}{number}").exists():
        number += 1
    aside.mkdir()
    for path in later:
        path.rename(aside / path.name)
    place = f"epoch {epoch}{f' and {batch} batches' if batch else ''}"
    with suppress(OSError):  # whoever reads it may be gone, and the checkpoint comes first
        print(one_line(f"checkpoints after {place} were moved to {aside}"), flush=True)


def _replace_by_copy(source: Path, target: Path) -> None:
    temporary = temporary_of(target)
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without hard links
        write_atomically(target, source.read_bytes())
    else:
        replace_durably(temporary, target)
