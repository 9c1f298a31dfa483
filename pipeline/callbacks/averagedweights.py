"""Evaluating and saving the moving averages of the weights."""

from collections.abc import Iterable

import keras

from pipeline.training.schedule import unscaled


class AveragedWeights(keras.callbacks.Callback):
    """Swaps the weights with their moving averages while the model is validated and saved.

    For a `Classifier` whose optimizer (`use_ema=True`) keeps an average of every trainable weight.
    From the beginning of the validation to the end of the epoch the model holds the averages, and
    the optimizer the weights that training goes on with; and likewise the model's moving statistics
    and their averages. So a checkpoint's model is the one that was evaluated, and what is needed to
    go on is in it, too. After the last epoch the averages stay in the model.

    Last in the list of callbacks: the others are to see the averages at the end of an epoch.
    Keras's SwapEMAWeights adds and subtracts on TensorFlow, which rounds, and in the last epoch
    leaves only the averages: a run could not go on from there exactly.

    Args:
        restored: whether the model comes from a checkpoint, and so holds the averages.
    """

    def __init__(self, restored: bool):
        super().__init__()
        self._restored = restored

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Gives a restored model the weights that training goes on with."""
        if self._restored:
            self._swap()

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Gives the model the averages."""
        self._swap()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Gives the model the weights that training goes on with."""
        self._swap()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Gives the model the averaged statistics for good, as Keras has done with the weights."""
        for statistic, average in self._statistics():
            statistic.assign(average)

    def _swap(self) -> None:
        # Keras has no public name for them.
        averages = unscaled(self.model.optimizer)._model_variables_moving_average
        weights = zip(self.model.trainable_variables, averages, strict=True)
        for weight, average in [*weights, *self._statistics()]:
            value = keras.ops.copy(weight)
            weight.assign(average)
            average.assign(value)

    def _statistics(self) -> Iterable[tuple[keras.Variable, keras.Variable]]:
        return zip(self.model.statistics, self.model.averages, strict=True)
