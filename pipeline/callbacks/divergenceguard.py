"""Ending a run whose loss or weights have left the numbers."""

import math
from collections.abc import Mapping
from typing import NoReturn

import keras
import numpy as np

from pipeline import backend
from pipeline.errors import Diverged

# Losses are looked at so many batches at a time, and so many batches late: the device has computed
# them by then, and nothing has to wait.
BATCHES = 20


class DivergenceGuard(keras.callbacks.Callback):
    """Stops when the loss is NaN or infinite, before a checkpoint of that epoch is written.

    At the end of an epoch it checks the weights and the optimizer's variables as well, as the loss
    need not show that they are damaged: a ReLU may turn NaN and minus infinity into zero.

    Raises:
        Diverged: from `fit`, with the epoch and the batch, both counted from 1.
    """

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch
        self._unseen: list[tuple[int, Mapping[str, float]]] = []

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Looks at the losses of earlier batches."""
        self._unseen.append((batch, logs or {}))
        if len(self._unseen) == 2 * BATCHES:
            self._look(self._unseen[:BATCHES])
            del self._unseen[:BATCHES]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Looks at the last batches, the validation and all that a checkpoint would hold."""
        self._look(self._unseen)
        place = "after its last batch"
        self._check("validation loss", (logs or {}).get("val_loss"), place)
        if (variable := not_finite(self.model)) is not None:
            self._stop(f"{variable.path} is no longer finite", place)

    def _look(self, batches: list[tuple[int, Mapping[str, float]]]) -> None:
        # A loss is the epoch's mean so far, which one bad batch spoils for good.
        if batches and not math.isfinite(batches[-1][1].get("loss", 0)):
            for batch, logs in batches:
                self._check("loss", logs["loss"], f"batch {batch + 1}")

    def _check(self, what: str, loss: float | None, place: str) -> None:
        if loss is not None and not math.isfinite(loss):
            self._stop(f"the {what} is {loss}", place)

    def _stop(self, what: str, place: str) -> NoReturn:
        raise Diverged(f"{what} in epoch {self._epoch + 1}, {place}")


def not_finite(model: keras.Model) -> keras.Variable | None:
    """Returns a variable that a checkpoint would hold and that is not finite, if there is one."""
    variables = [*model.weights, *model.optimizer.variables, *model.metrics_variables]
    for variable, values in zip(variables, backend.to_numpy(variables), strict=True):
        if not np.isfinite(values).all():
            return variable
    return None
