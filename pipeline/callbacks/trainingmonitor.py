"""The record of a run that a person watches: history as JSON and CSV, and a plot of it."""

import json
import sys
from pathlib import Path
from typing import Any

import keras

from pipeline import history as histories
from pipeline.errors import one_line
from pipeline.figures.curve import plot
from pipeline.files.atomic import write_atomically
from pipeline.history import History
from pipeline.training.schedule import last_learning_rate


class TrainingMonitor(keras.callbacks.Callback):
    """Writes the history to JSON and CSV and plots loss and accuracy after every epoch.

    The files are replaced atomically. A plot that cannot be written is only warned of.

    Args:
        fig_path: the plot, PNG.
        json_path: the history, and beside it the same as CSV; without it none is written.
        start_at: epochs already trained. The history of a resumed run is trimmed to them.
        history: the epochs already trained; by default what `json_path` holds.
        writes: whether this process writes; if not, another one does it.
        drawn_with: more arguments of `plot`, such as `title`.

    Raises:
        UserError: `json_path` is to be resumed and is not a history.
    """

    def __init__(
        self,
        fig_path: str | Path,
        json_path: str | Path | None = None,
        start_at: int = 0,
        history: History | None = None,
        writes: bool = True,
        **drawn_with: Any,
    ):
        super().__init__()
        self.fig_path = Path(fig_path)
        self.json_path = Path(json_path) if json_path else None
        if history is None and start_at > 0 and self.json_path and self.json_path.exists():
            history = histories.read_history(self.json_path)
        self.history = histories.trimmed(history or {}, start_at)
        self._writes, self._drawn_with = writes, drawn_with

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the epoch to the history, the learning rate included, and writes it."""
        learning_rate = last_learning_rate(self.model.optimizer)
        histories.append(self.history, logs or {}, learning_rate)
        self.write()

    def write(self) -> None:
        """Writes the files."""
        if not self._writes:
            return
        if self.json_path:
            write_atomically(self.json_path, json.dumps(self.history) + "\n")
            write_atomically(self.json_path.with_suffix(".csv"), histories.as_csv(self.history))
        png = plot(self.history, **self._drawn_with)
        try:
            write_atomically(self.fig_path, png)
        except OSError as error:
            message = f"warning: {self.fig_path} was not drawn: {error.strerror}"
            print(one_line(message), file=sys.stderr)
