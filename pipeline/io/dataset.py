"""What every data set comes as."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from sklearn.model_selection import train_test_split

from pipeline.errors import UserError
from pipeline.io.photographs import Photographs
from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor


class Images(Protocol):
    """uint8 RGB images (n, height, width, 3) that are gathered by an array of indices.

    A NumPy array, or something that reads them from disk when they are asked for.
    """

    shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images to train on and images to evaluate on, and what has to be known about them.

    Attributes:
        train_images: what the network learns from.
        train_labels: int32 (n,).
        val_images: what the network is validated on after every epoch, and reported on at the end
            where there are no `test_images`.
        val_labels: int32 (m,).
        label_names: the classes' names, by label.
        mean: of the training images, float32 (height, width, 3) or (3,); the mean image, pixel by
            pixel, if left out.
        may_be_mirrored: whether an image's mirror image is still one of its class.
        name: what it is called for people; if left out, as in the experiment.
        val_part: "test set" or "held out" where it is these images that are validated on, and not a
            validation set.
        fingerprint: another for other images, where they lie in files that a person may change
            between a run's start and its going on.
        test_images: what the network is reported on once, at the end; None where there are none
            beside those that it is validated on.
        test_labels: int32 (k,).

    Raises:
        UserError: images or labels are of another kind, or do not fit together.
    """

    train_images: Images
    train_labels: np.ndarray
    val_images: Images
    val_labels: np.ndarray
    label_names: tuple[str, ...]
    mean: np.ndarray | None = None
    may_be_mirrored: bool = True
    name: str | None = None
    val_part: str = ""
    fingerprint: str | None = None
    test_images: Images | None = None
    test_labels: np.ndarray | None = None

    def __post_init__(self):
        self._check(self.train_images, self.train_labels)
        self._check(self.val_images, self.val_labels)
        if self.test_images is not None:
            self._check(self.test_images, self.test_labels)
        if self.mean is None:
            mean = MeanPreprocessor.of_images(self.train_images).mean
            object.__setattr__(self, "mean", mean)

    def _check(self, images: Images, labels: np.ndarray) -> None:
        if isinstance(images, np.ndarray) and images.dtype != np.uint8:
            raise UserError(f"images must be uint8, from 0 to 255, not {images.dtype}")
        labels = np.asarray(labels)
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise UserError(
                f"{len(images)} images need as many labels, integers in an array of one dimension, "
                f"not {labels.dtype} of shape {labels.shape}"
            )
        names = len(self.label_names)
        if len(labels) and not 0 <= labels.min() <= labels.max() < names:
            raise UserError(
                f"labels must be from 0 to {names - 1}, as there are {names} names, not from "
                f"{labels.min()} to {labels.max()}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height and width in pixels, and channels."""
        return tuple(self.train_images.shape[1:])

    def with_held_out(self, count: int) -> Dataset:
        """Validates on training images instead, drawn at random and always alike.

        At random, since files in the order of their names have similar pictures side by side. A
        mean image becomes that of the images which are left to train on; a mean colour stays.

        Args:
            count: how many images, the same share of every class; but at least one of each on
                either side, which may make them a few more or fewer.

        Raises:
            UserError: a class has a single image, or there are fewer images than that.
        """
        labels = self.train_labels
        classes, counts = np.unique(labels, return_counts=True)
        if (counts == 1).any():
            raise UserError(
                f"the class {self.label_names[classes[counts.argmin()]]} has a single image that "
                "can be used, and needs two: one to train on and one to hold out"
            )
        try:
            parts = train_test_split(
                np.arange(len(labels)), test_size=count, stratify=labels, random_state=42
            )
        except ValueError as error:
            raise UserError(
                f"{count} of {len(labels)} training images cannot be held out ({error})"
            ) from error
        kept, held = parts
        held, kept = _with_every_class(held, kept, labels)
        kept, held = _with_every_class(kept, held, labels)
        in_memory = isinstance(self.train_images, np.ndarray)
        return replace(
            self,
            train_images=_subset(self.train_images, kept),
            train_labels=labels[kept],
            val_images=_subset(self.train_images, held),
            val_labels=labels[held],
            mean=None if in_memory and self.mean.ndim == 3 else self.mean,
            val_part="held out",
        )


def _with_every_class(
    indices: np.ndarray, others: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Moves one image of each class that some lack from others to them; both come back sorted."""
    missing = np.setdiff1d(labels, labels[indices])
    moved = [others[labels[others] == label][0] for label in missing]
    return np.union1d(indices, moved).astype(indices.dtype), np.setdiff1d(others, moved)


def _subset(images: Images, indices: np.ndarray) -> Images:
    if isinstance(images, Photographs):
        return images.subset(indices)
    return images[indices] if isinstance(images, np.ndarray) else _Subset(images, indices)


class _Subset:
    """Some of the images of a data set that is too large to be copied."""

    def __init__(self, images: Images, indices: np.ndarray):
        self._images, self._indices = images, indices
        self.shape = (len(indices), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        return self._images[self._indices[indices]]
