"""What a person sees of a training: a table with a row an epoch."""

import errno
import shutil
import sys
import time
from typing import TextIO

import keras

from pipeline.streams import NOBODY_READS, silence
from pipeline.training.schedule import last_learning_rate

COLUMNS = {
    "epoch": 7,
    "loss": 8,
    "acc": 8,
    "val loss": 10,
    "val acc": 9,
    "lr": 10,
    "img/s": 8,
    "time left": 11,
}
REDRAWN = 0.2  # seconds from one drawing of the row to the next


class Progress(keras.callbacks.Callback):
    """Prints a row when an epoch has ended, and on a terminal draws it over while it is under way.

    Used as a context manager around `fit`, so that whatever is printed after it has a line of its
    own however `fit` ends, and as one of its callbacks, after the one that measures the speed and
    before those that print.

    The time left is that of the whole run, validation included; before the end of the first epoch,
    training alone.

    Args:
        batch_size: images a batch.
        stream: where the rows go; standard output if left out.
    """

    def __init__(self, batch_size: int, stream: TextIO | None = None):
        super().__init__()
        self._stream = stream or sys.stdout
        self._draws = self._stream.isatty()
        self._batch_size = batch_size
        self._first: int | None = None  # epoch of this `fit`
        self._open = False  # whether a row is drawn that may be drawn over
        self._done = 0  # batches since the clock was started
        self._before = 0  # batches of the first epoch that an earlier process has trained

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._open:
            self._print("\n")

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Prints the names of the columns."""
        names = "".join(f"{name:>{width}}" for name, width in COLUMNS.items())
        self._print(f"{names}\n")

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Draws the row anew."""
        self._epoch, self._place, self._logs = epoch, "", {}
        self._of_epoch = 0  # batches since the epoch's clock was started
        if self._first is None:
            self._first, self._place = epoch, "starting"  # the first batch may take a minute
        self._drawn = 0.0
        self._draw()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Draws how far the epoch is."""
        now = time.monotonic()
        if self._done == 0:  # from here on, as the first batch waits for its compilation
            self._clock, self._before = now, batch
        if self._of_epoch == 0:
            self._epoch_clock = now
        self._done += 1
        self._of_epoch += 1
        self._logs = logs or {}
        self._place = f"batch {batch + 1}/{self.params['steps']}"
        self._draw()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Draws that the epoch is being validated."""
        self._place = f"validation {batch + 1}"
        self._draw()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Prints the row."""
        self._logs = {**(logs or {}), "lr": last_learning_rate(self.model.optimizer)}
        self._place = ""
        self._draw(last=True)

    def _draw(self, last: bool = False) -> None:
        now = time.monotonic()
        if not last and (not self._draws or now - self._drawn < REDRAWN):
            return
        self._drawn = now
        row = self._row()
        if self._draws:
            width = shutil.get_terminal_size().columns - 1  # a wrapped line could not be drawn over
            row = f"\r{row[:width]}\N{ESCAPE}[K"
        self._print(f"{row}\n" if last else row)
        self._open = not last

    def _print(self, text: str) -> None:
        try:
            print(text, end="", file=self._stream, flush=True)
        except OSError as error:
            if error.errno not in NOBODY_READS or (error.errno == errno.EIO and not self._draws):
                raise
            # Whoever has read it is gone. A signal will end the run, in good order, or it is to go
            # on.
            silence(self._stream)

    def _row(self) -> str:
        logs = self._logs
        texts = {
            "epoch": f"{self._epoch + 1}/{self.params['epochs']}",
            "loss": _digits(logs.get("loss")),
            "acc": _digits(logs.get("accuracy")),
            "val loss": _digits(logs.get("val_loss")),
            "val acc": _digits(logs.get("val_accuracy")),
            "lr": f"{logs['lr']:.3g}" if "lr" in logs else "",
            "img/s": self._speed(),
            "time left": self._time_left(),
        }
        if self._place:  # there is no validation yet
            texts["val loss"] = f"{self._place:>{COLUMNS['val loss'] + COLUMNS['val acc']}}"
            texts["val acc"] = None
        return "".join(
            f"{text:>{COLUMNS[name]}}" for name, text in texts.items() if text is not None
        )

    def _speed(self) -> str:
        rate = self._logs.get("images_per_second")
        if self._place.startswith("batch") and self._of_epoch > 1:
            seconds = time.monotonic() - self._epoch_clock
            rate = (self._of_epoch - 1) * self._batch_size / seconds
        return f"{rate:,.0f}" if rate is not None else ""

    def _time_left(self) -> str:
        if self._done < 2:
            return ""
        steps = self.params["steps"] * (self.params["epochs"] - self._first) - self._before
        left = steps - self._done
        seconds = (time.monotonic() - self._clock) / (self._done - 1) * left
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
