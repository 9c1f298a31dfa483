"""How close an exported network comes to Keras's."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import keras
import numpy as np

from pipeline.errors import UserError
from pipeline.nn.spec import NetworkSpec

LIMIT = 1e-4  # the largest difference of a probability that passes for rounding
BATCH = 128

Probabilities = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """Both networks' answers to the same pictures.

    Attributes:
        pictures: how many.
        largest_difference: of a probability; NaN where one of them is.
        agreement: fraction of the pictures in which both see the same class.
        accuracies: of the exported network and of Keras's, fractions, where labels were given.
    """

    pictures: int
    largest_difference: float
    agreement: float
    accuracies: tuple[float, float] | None

    def __str__(self) -> str:
        text = (
            f"{self.pictures:,} pictures, probabilities differ from Keras's by up to "
            f"{self.largest_difference:.2g}, the same class in {self.agreement:.2%}"
        )
        if self.accuracies:
            ours, kerass = self.accuracies
            text += f"; {ours:.2%} right, Keras's {kerass:.2%}"
        return text

    def require_equality(self) -> None:
        """Refuses an exported network that is not Keras's.

        Raises:
            UserError: a probability differs by more than rounding explains.
        """
        if not self.largest_difference <= LIMIT:  # nor is NaN
            raise UserError(
                "the exported network was not kept: its probabilities differ from Keras's by up "
                f"to {self.largest_difference:.2g}, and rounding explains no more than {LIMIT:g}"
            )


def compare(
    exported: Probabilities,
    network: keras.Model,
    spec: NetworkSpec,
    blocks: Iterable[np.ndarray],
    labels: np.ndarray | None = None,
) -> Comparison:
    """Lets an exported network and Keras's classify the same pictures.

    The exported one gets the pixels, a picture alone and then many at a time; Keras's what the
    preprocessing makes of them outside of any graph.

    Args:
        exported: from images (n, height, width, 3) to probabilities (n, classes).
        network: that it is to equal, from preprocessed images.
        spec: what the network is.
        blocks: the pictures, uint8 RGB (n, height, width, 3), some at a time.
        labels: the right classes of all of them.
    """
    of_exported, of_keras = [], []
    for images in blocks:
        batches = np.split(images, range(1, len(images), BATCH))
        of_exported.append(np.concatenate([exported(batch) for batch in batches]))
        of_keras.append(network.predict(spec.preprocessor.preprocess(images), BATCH, verbose=0))
    of_exported, of_keras = np.concatenate(of_exported), np.concatenate(of_keras)
    if of_exported.shape != of_keras.shape:
        raise ValueError(
            f"the exported network gives {of_exported.shape}, Keras's {of_keras.shape}"
        )
    exported_labels, keras_labels = of_exported.argmax(axis=1), of_keras.argmax(axis=1)
    accuracies = None
    if labels is not None:
        accuracies = (
            float((exported_labels == labels).mean()),
            float((keras_labels == labels).mean()),
        )
    return Comparison(
        pictures=len(of_exported),
        largest_difference=float(np.abs(of_exported - of_keras).max()),
        agreement=float((exported_labels == keras_labels).mean()),
        accuracies=accuracies,
    )
