"""What changes in the course of a run: learning rates, by epoch or by step, and images' size.

By epoch, learning rates are as `keras.callbacks.LearningRateScheduler` takes them.
"""

from collections.abc import Callable

import keras
import numpy as np

Schedule = Callable[[int, float], float]


def polynomial_decay(initial: float, epochs: int, power: float = 1.0) -> Schedule:
    """Lets the learning rate fall to zero over the run, linearly with power 1.

    Args:
        initial: learning rate of the first epoch.
        epochs: length of the run; the rate would reach zero in the epoch after the last.
        power: exponent of the remaining fraction of the run.

    Returns:
        A schedule: initial * (1 - epoch / epochs) ** power, epochs counted from 0.
    """

    def schedule(epoch: int, learning_rate: float) -> float:
        return initial * (1 - epoch / epochs) ** power

    return schedule


def constant(epoch: int, learning_rate: float) -> float:
    """Keeps the optimizer's learning rate; whoever watches the training changes it on resume."""
    return learning_rate


def warmup_cosine(
    highest: float, steps: int, warmup_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Lets the learning rate rise from zero linearly, then fall along a cosine, step by step.

    Args:
        highest: learning rate at the end of the warm-up.
        steps: length of the run; in its last step the rate is exactly zero.
        warmup_steps: length of the warm-up, which takes no more than half of a short run.

    Returns:
        A schedule for the optimizer.
    """
    last = steps - 1
    warmup_steps = min(warmup_steps, last // 2)
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps=max(1, last - warmup_steps),
        warmup_target=highest,
        warmup_steps=warmup_steps,
    )


def growing_size(
    size: int,
    epochs: int,
    first: float,
    last: float,
    since: float,
    until: float,
    step: int = 32,
) -> Callable[[int], int]:
    """Lets training images grow over the run: smaller ones take less time (arXiv:2306.12517).

    Args:
        size: of the images that the network is for, in pixels.
        epochs: length of the run.
        first: size in the first epochs, as a fraction of `size`.
        last: size in the last epochs, likewise.
        since: when it begins to grow, as a fraction of the run.
        until: when it has its last size; a run of few epochs may end before.
        step: of which sizes are a multiple, in pixels: by how much the network makes a map smaller
            than the image.

    Returns:
        From the epoch, counted from 0, to the size in pixels.
    """

    def size_in(epoch: int) -> int:
        fraction = np.interp(epoch / epochs, [since, until], [first, last])
        return max(step, step * round(size * float(fraction) / step))

    return size_in


def last_learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the step that an optimizer has just taken."""
    optimizer = unscaled(optimizer)
    # Keras's public name gives the rate of the step to come, and no name the schedule.
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(optimizer.iterations - 1)
    return float(keras.ops.convert_to_numpy(rate))


def unscaled(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns an optimizer without the scaling of the loss that wraps it in half precision."""
    return getattr(optimizer, "inner_optimizer", optimizer)
