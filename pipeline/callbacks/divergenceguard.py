"""Ending a run whose loss or weights have left the numbers."""

import math
from typing import NoReturn

import keras
import numpy as np
from keras import ops

from pipeline.errors import Diverged


class DivergenceGuard(keras.callbacks.Callback):
    """Stops as soon as the loss is NaN or infinite, before a checkpoint of that epoch is written.

    So it does at an epoch's end for weights and the optimizer's variables, which a loss need not
    show: a ReLU may turn NaN and minus infinity into zero.

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
        """Looks at the validation and at all that a checkpoint would hold."""
        place = "after its last batch"
        self._check("validation loss", (logs or {}).get("val_loss"), place)
        for variable in [*self.model.weights, *self.model.optimizer.variables]:
            if not np.isfinite(ops.convert_to_numpy(variable)).all():
                self._stop(f"{variable.path} is no longer finite", place)

    def _check(self, what: str, loss: float | None, place: str) -> None:
        if loss is not None and not math.isfinite(loss):
            self._stop(f"the {what} is {loss}", place)

    def _stop(self, what: str, place: str) -> NoReturn:
        raise Diverged(f"{what} in epoch {self._epoch + 1}, {place}")
