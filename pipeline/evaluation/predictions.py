"""What a network says of the images of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from sklearn.metrics import classification_report

from pipeline.batches import EvaluationBatches, reading
from pipeline.utils.ranked import rank5_accuracy


@dataclass(frozen=True, eq=False)
class Predictions:
    """Probabilities for images, beside the right answers.

    Attributes:
        probabilities: float32 (n, classes).
        labels: the right classes, int32 (n,).
        label_names: the classes' names, by label.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    label_names: tuple[str, ...]

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each image, int64 (n,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        """Fraction of the images whose most probable class is the right one."""
        return float((self.predicted == self.labels).mean())

    def ranks(self) -> tuple[float, float]:
        """Returns rank-1 and rank-5 accuracy; see `rank5_accuracy`."""
        return rank5_accuracy(self.probabilities, self.labels)

    def report(self) -> str:
        """Returns scikit-learn's classification report: precision and recall of each class."""
        return classification_report(
            self.labels,
            self.predicted,
            labels=np.arange(len(self.label_names)),
            target_names=self.label_names,
            digits=4,
            zero_division=0,
        )


def predict(
    network: keras.Model, batches: EvaluationBatches, label_names: tuple[str, ...]
) -> Predictions:
    """Asks a network about every image of a data set once.

    Args:
        network: from preprocessed images to probabilities.
        batches: the images.
        label_names: the classes' names, by label.

    Raises:
        UserError: the images can no longer be read.
    """
    with reading(batches):
        probabilities = network.predict(batches, verbose=0)
    return Predictions(probabilities, batches.labels, label_names)
