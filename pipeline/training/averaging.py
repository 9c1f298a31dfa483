"""Moving averages of the weights that are short at first, so that no early weights stay in them."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def averaging_momentum(highest: float, step: Any) -> keras.KerasTensor:
    """Returns the momentum of a moving average in one step of training.

    It rises from 0 to `highest`; until it is there, the average covers about the last ninth of the
    run. TensorFlow's `ExponentialMovingAverage` with `num_updates` rises alike.

    Args:
        highest: the momentum of a long average, from 0 to 1.
        step: number of steps before this one, a tensor or variable.
    """
    step = ops.cast(step, "float32")
    return ops.minimum(highest, step / (step + 9))


def average_by_step(optimizer: keras.optimizers.Optimizer) -> None:
    """Lets an optimizer's moving average of the weights have the momentum `averaging_momentum`.

    With Keras's one momentum for all steps, the average of a short run, or of one that is stopped
    early, would be mostly the weights that the network was initialized with.

    Args:
        optimizer: one with `use_ema`. It stays one of Keras's own classes, of which some backends
            know faster ways.
    """

    def update(trainable_variables: Sequence[keras.Variable]) -> None:
        momentum = averaging_momentum(optimizer.ema_momentum, optimizer.iterations)
        averages = optimizer._model_variables_moving_average
        for variable, average in zip(trainable_variables, averages, strict=True):
            average.assign(momentum * average + (1 - momentum) * variable)

    # Keras has no public name for it.
    optimizer._update_model_variables_moving_average = update
