"""What a network says of the images of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from sklearn import metrics

from pipeline.errors import one_line
from pipeline.utils.ranked import rank5_accuracy

if TYPE_CHECKING:  # slow to import: what is kept of a run is looked at without Keras
    import keras

    from pipeline.batches import EvaluationBatches


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

    @cached_property
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

    def calibration_error(self, bins: int = 15) -> float:
        """Returns the expected calibration error (arXiv:1706.04599, equation 3).

        How far, on average over the images, the probability that the network gives to its answer
        is from how often it is right when it gives about that probability.

        Args:
            bins: how many intervals of one width the probabilities are sorted into.

        Returns:
            A fraction from 0, calibrated, to 1.
        """
        confidence = self.probabilities.max(axis=1).astype(np.float64)
        numbers = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        right = self.predicted == self.labels
        gaps = np.bincount(numbers, weights=right - confidence)
        return float(np.abs(gaps).sum() / len(right))

    def confusion_matrix(self) -> np.ndarray:
        """Counts the images by right class and most probable class.

        Returns:
            int64 (classes, classes): a row is the right class, a column the most probable one.
        """
        every = np.arange(len(self.label_names))
        return metrics.confusion_matrix(self.labels, self.predicted, labels=every)

    def confusions(self, most: int) -> list[dict]:
        """Returns the most frequent confusions: `images`, and the classes `right` and `said`."""
        wrong = self.confusion_matrix()
        np.fill_diagonal(wrong, 0)
        confusions = []
        for place in np.argsort(-wrong, axis=None, kind="stable")[:most]:
            right, said = np.unravel_index(place, wrong.shape)
            if images := int(wrong[right, said]):
                pair = {"right": self.label_names[right], "said": self.label_names[said]}
                confusions.append({"images": images, **pair})
        return confusions

    def of_classes(self) -> list[dict]:
        """Returns `name`, `precision`, `recall`, `f1` and number of `images` of each class.

        What would be divided by no images at all is 0.
        """
        columns = metrics.precision_recall_fscore_support(
            self.labels, self.predicted, labels=np.arange(len(self.label_names)), zero_division=0
        )
        numbers = (column.tolist() for column in columns)
        keys = ("name", "precision", "recall", "f1", "images")
        rows = zip(self.label_names, *numbers, strict=True)
        return [dict(zip(keys, row, strict=True)) for row in rows]

    def measures(self) -> dict:
        """Returns all measures in types that JSON has; see the methods of their names."""
        rank_1, rank_5 = self.ranks()
        return {
            "images": len(self.labels),
            "rank_1": rank_1,
            "rank_5": rank_5,
            "calibration_error": self.calibration_error(),
            "classes": self.of_classes(),
            "confusion_matrix": self.confusion_matrix().tolist(),
        }

    def mistakes(self, most: int) -> np.ndarray:
        """Returns which images are classified wrongly, those of the surest answers first.

        Returns:
            Indices, int64 (k,), k <= most.
        """
        predicted = self.predicted
        wrong = np.flatnonzero(predicted != self.labels)
        surest = np.argsort(-self.probabilities[wrong, predicted[wrong]], kind="stable")
        return wrong[surest[:most]]

    def report(self, worst: int | None = None) -> str:
        """Returns scikit-learn's classification report: precision and recall of each class.

        Args:
            worst: how many classes are in it, those of the lowest F1 score; all if left out. The
                averages are over all classes in any case.
        """
        classes = np.arange(len(self.label_names))
        truth = {"y_true": self.labels, "y_pred": self.predicted, "labels": classes}
        names = [one_line(name) for name in self.label_names]
        text = metrics.classification_report(**truth, target_names=names, digits=4, zero_division=0)
        if worst is None:
            return text
        kept = metrics.f1_score(**truth, average=None, zero_division=0).argsort(kind="stable")[
            :worst
        ]
        head, end = 2, 2 + len(classes)  # lines before and up to those of the classes
        lines = text.splitlines(keepends=True)
        return "".join([*lines[:head], *(lines[head + label] for label in kept), *lines[end:]])


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
    from pipeline.batches import original_errors

    with original_errors(batches):
        probabilities = network.predict(batches, verbose=0)[: len(batches.labels)]
    return Predictions(probabilities, batches.labels, label_names)
