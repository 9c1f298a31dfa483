"""Learning rates by epoch, as `keras.callbacks.LearningRateScheduler` takes them."""

from collections.abc import Callable

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
