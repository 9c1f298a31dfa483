"""Ending a run whose loss has left the numbers."""

import math

import keras

from pipeline.errors import Diverged


class DivergenceGuard(keras.callbacks.Callback):
    """Stops as soon as the loss is NaN or infinite, before a checkpoint of that epoch is written.

    Raises:
        Diverged: from `fit`, with the epoch and the batch, both counted from 1.
    """

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Looks at the epoch's mean loss so far, which one bad batch spoils for good."""
        self._check("loss", (logs or {}).get("loss"), f"batch {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Looks at the validation, which meets what the last batch did to the weights."""
        self._check("validation loss", (logs or {}).get("val_loss"), "after its last batch")

    def _check(self, what: str, loss: float | None, place: str) -> None:
        if loss is not None and not math.isfinite(loss):
            raise Diverged(f"the {what} is {loss} in epoch {self._epoch + 1}, {place}")
