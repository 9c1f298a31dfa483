"""How fast training is."""

import time

import keras


class Throughput(keras.callbacks.Callback):
    """Adds `images_per_second` to every epoch's logs, for the progress line and the record.

    The first batch of a run, which compiles the training step, and the validation are left out. The
    first batch of larger images, for which JAX compiles it anew, is not.

    Args:
        batch_size: images a batch.
    """

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size
        self._compiled = False

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Starts the clock."""
        self._start, self._batches = time.perf_counter(), 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Counts the batch."""
        self._batches += 1
        if logs and (not self._compiled or batch + 1 == self.params["steps"]):
            logs.get("loss")  # the device may be batches behind: this waits until it is done
        self._end = time.perf_counter()
        if not self._compiled:
            self._compiled = True
            self._start, self._batches = self._end, 0

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the measure."""
        if logs is not None and self._batches:
            seconds = self._end - self._start
            logs["images_per_second"] = round(self._batches * self.batch_size / seconds, 1)
