"""A run's history: for each measure one value an epoch, as Keras's History has it."""

import json
import math
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.files.reading import read_regular

BYTES_LIMIT = 2**24  # 200,000 epochs
History = dict[str, list[float]]
MEASURES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


def epochs(history: History) -> int:
    """Returns the number of epochs a history covers."""
    return max((len(values) for values in history.values()), default=0)


def append(history: History, logs: dict, learning_rate: float) -> None:
    """Adds an epoch to a history.

    Args:
        history: the epochs before.
        logs: what Keras gives to `on_epoch_end`.
        learning_rate: of the epoch, or of its last step where it changes by step.
    """
    # float32's own shortest digits: 0.1, not 0.10000000149.
    row = {**logs, "learning_rate": float(str(np.float32(learning_rate)))}
    for name in MEASURES:
        if name in row:
            history.setdefault(name, []).append(float(row[name]))


def rows(history: History) -> list[tuple[float, ...]]:
    """Returns a history epoch by epoch, the measures in the order of their names."""
    return list(zip(*(history[name] for name in sorted(history)), strict=True))


def trimmed(history: History, count: int) -> History:
    """Returns the first `count` epochs of a history."""
    return {name: values[:count] for name, values in history.items()}


def as_csv(history: History) -> str:
    """Returns a history as CSV: a row an epoch, numbered from 1, and a column a measure."""
    rows = zip(range(1, epochs(history) + 1), *history.values(), strict=True)
    return "".join(",".join(map(str, row)) + "\n" for row in [("epoch", *history), *rows])


def stalled(history: History, patience: int | None) -> bool:
    """Tells whether the validation accuracy has not risen for `patience` epochs; None: never."""
    accuracies = history.get("val_accuracy", [])
    if not patience or not accuracies:
        return False
    return len(accuracies) - 1 - accuracies.index(max(accuracies)) >= patience


def checked(history: object) -> History:
    """Returns what was read from a file if it is a history: lists of one length, finite numbers.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(history, dict) or not all(
        isinstance(values, list)
        and len(values) == len(next(iter(history.values())))
        and all(isinstance(value, float) and math.isfinite(value) for value in values)
        for values in history.values()
    ):
        raise ValueError("it holds something else")
    return history


def read_history(path: str | Path) -> History:
    """Reads a history that `TrainingMonitor` has written.

    Raises:
        UserError: the file is not a history.
        OSError: it cannot be read.
    """
    try:
        return checked(json.loads(read_regular(path, BYTES_LIMIT)))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged or not a history ({error}); move it away") from error


def read_keras_history(path: str | Path) -> History:
    """Reads those of `MEASURES` that another program's history has, whatever its version of Keras.

    Raises:
        UserError: the file is not a history, or has none of these measures.
        OSError: it cannot be read.
    """
    old_names = {"acc": "accuracy", "val_acc": "val_accuracy"}  # until Keras 2.3
    try:
        found = json.loads(read_regular(path, BYTES_LIMIT))
        named = {old_names.get(name, name): values for name, values in found.items()}
        history = {name: named[name] for name in MEASURES if name in named}
        for name, values in history.items():
            if isinstance(values, list):  # with whole numbers, as JavaScript writes them
                history[name] = [float(one) if type(one) is int else one for one in values]
        checked(history)
    except (ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is not a history of lists of numbers ({error})") from error
    if not history:
        raise UserError(f"{path} has none of {', '.join(MEASURES)}")
    return history
