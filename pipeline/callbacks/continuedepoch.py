"""Resuming in the middle of an epoch."""

import keras
import numpy as np
from keras.src.trainers.data_adapters import get_data_adapter

from pipeline.batches import TrainingBatches
from pipeline.callbacks.lazycallbacklist import LazyCallbackList
from pipeline.files.modelfile import Checkpoint
from pipeline.training.classifier import Classifier


class ContinuedEpoch(LazyCallbackList):
    """The callbacks of a `fit` that goes on after some batches of its first epoch.

    To Keras every epoch has the same number of batches. So the first one is ended before its time,
    and callbacks are told where it really is; its metrics go on from what they were.

    Args:
        callbacks: that are to be called.
        classifier: what is trained.
        batches: it goes on with.
        class_weight: as for `fit`.
        checkpoint: of the epoch under way, for its metrics.
        epochs, steps: as for `LazyCallbackList`.

    Attributes:
        data: what `fit` is to be given, with the number of steps in a whole epoch.
    """

    def __init__(
        self,
        callbacks: list[keras.callbacks.Callback],
        classifier: Classifier,
        batches: TrainingBatches,
        class_weight: dict[int, float] | None,
        checkpoint: Checkpoint,
        epochs: int,
        steps: int,
    ):
        super().__init__(callbacks, add_history=True, model=classifier, epochs=epochs, steps=steps)
        self.data = get_data_adapter(classifier.endless(batches), class_weight=class_weight)
        self._batches = batches
        self._batch, self._checkpoint = batches.start_batch, checkpoint

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Gives the first epoch's metrics their values."""
        if self._batch:
            if len(self.model.metrics_variables) < len(self._checkpoint.metrics):
                self._build_metrics()
            self._checkpoint.restore_metrics(self.model)
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Counts the batches from the real beginning of the epoch."""
        super().on_train_batch_begin(batch + self._batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Ends the first epoch where it really ends."""
        batch += self._batch
        super().on_train_batch_end(batch, logs)
        if self._batch and batch + 1 == self.params["steps"]:
            self.model.stop_training = True
            self.data.on_epoch_end()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Lets training go on after the first epoch."""
        if self._batch:
            self.model.stop_training, self._batch = False, 0
        super().on_epoch_end(epoch, logs)

    def _build_metrics(self) -> None:
        # Else TensorFlow makes them in the first batch.
        images, labels = self._batches[0]
        answers = np.zeros((len(labels), self.model.network.output.shape[-1]), np.float32)
        self.model.compute_metrics(images, labels, answers)
