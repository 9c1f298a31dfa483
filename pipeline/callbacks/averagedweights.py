"""Evaluating and saving the moving averages of the weights."""

import keras
import numpy as np


class AveragedWeights(keras.callbacks.Callback):
    """Lets an optimizer's moving averages change places with the weights from validation to save.

    The optimizer (`use_ema=True`) keeps an average of every trainable weight. From the beginning of
    the validation to the end of the epoch the model holds the averages, and the optimizer the
    weights that training goes on with. So a checkpoint's model is the one that was evaluated, and
    what is needed to go on is in it, too. After the last epoch Keras gives the averages to the
    model for good.

    Batch normalization's moving statistics are not averaged: they are those of the weights that
    training goes on with. At the end of a run whose learning rate falls to zero the averages have
    caught up with these weights.

    Last in the list of callbacks: the others are to see the averages at the end of an epoch.
    Keras's SwapEMAWeights adds and subtracts on TensorFlow, which rounds, and in the last epoch
    leaves only the averages: a run could not go on from there exactly.

    Args:
        optimizer: the model's, without the scaling of the loss that may wrap it.
        restored: whether the model comes from a checkpoint, and so holds the averages.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, restored: bool):
        super().__init__()
        self._optimizer = optimizer
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

    def _swap(self) -> None:
        # Keras has no public name for them.
        averages = self._optimizer._model_variables_moving_average
        for weight, average in zip(self.model.trainable_variables, averages, strict=True):
            # A copy: what is got from torch is the variable's own memory.
            value = np.array(keras.ops.convert_to_numpy(weight))
            weight.assign(average)
            average.assign(value)
