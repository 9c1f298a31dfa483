"""Rank-1 and rank-5 accuracy."""

import numpy as np


def rank5_accuracy(predictions: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Computes how often the right class is the first, and how often among the first five.

    Of classes that score alike the one with the lower label comes first, as with `argmax`, so that
    rank-1 is the accuracy that Keras reports and constant predictions gain nothing from the ties.
    With five classes or fewer, rank-5 is 1.

    Args:
        predictions: scores or probabilities, (n, classes).
        labels: the right classes, integers (n,).

    Returns:
        Rank-1 and rank-5 accuracy, fractions from 0 to 1.

    Raises:
        ValueError: there are no predictions, not one label for each, a label out of range, or a
            NaN among the predictions, which has no rank.

    Example:
        >>> rank5_accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
        (0.5, 1.0)
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.ndim != 2 or not predictions.size:
        raise ValueError(f"predictions must be (n, classes), n > 0: got {predictions.shape}")
    if labels.shape != predictions.shape[:1]:
        raise ValueError(f"got labels {labels.shape} for predictions {predictions.shape}")
    classes = predictions.shape[1]
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be integers from 0 to {classes - 1}")
    if broken := int(np.isnan(predictions).any(axis=1).sum()):
        raise ValueError(f"{broken} of {len(predictions)} predictions hold NaN")

    right = np.take_along_axis(predictions, labels[:, None], axis=1)
    tied_before = (predictions == right) & (np.arange(classes) < labels[:, None])
    rank = (predictions > right).sum(axis=1) + tied_before.sum(axis=1)
    return float((rank < 1).mean()), float((rank < 5).mean())
