"""Batches of images that depend on nothing but the seed, the epoch and their place in it."""

import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import keras
import numpy as np

from pipeline.preprocessing.affineaugmenter import AffineAugmenter


class Images(Protocol):
    """uint8 images (n, height, width, channels) that can be gathered by an array of indices."""

    shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> np.ndarray: ...


class Preprocessor(Protocol):
    """Turns a batch of images into another."""

    def preprocess(self, image: np.ndarray) -> np.ndarray: ...


class ImageBatches(keras.utils.PyDataset):
    """What training and evaluation batches share: images, preprocessing and making batches ahead.

    Keras's own workers are left unused: they hand out the batches they have read ahead after an
    epoch's end or a restart, as if they were the next epoch's. Here threads make batches ahead by
    number, so that a batch asked for is always the batch of that number.

    Args:
        images: uint8 images, an array or anything that is indexed like one.
        labels: integer class ids, (n,).
        batch_size: images a batch.
        preprocessors: applied in turn to every batch; the result is float32.
        workers: threads that make batches ahead.

    Raises:
        ValueError: no images, or not one label an image, or a size below 1.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        batch_size: int,
        preprocessors: Sequence[Preprocessor] = (),
        workers: int = 1,
    ):
        super().__init__()
        if len(images) != len(labels) or not len(images):
            raise ValueError(f"got {len(images)} images and {len(labels)} labels")
        if batch_size < 1 or workers < 1:
            raise ValueError(f"got batch_size {batch_size} and workers {workers}: both start at 1")
        self.images = images
        self.labels = np.asarray(labels, dtype=np.int32)
        self.batch_size = batch_size
        self.preprocessors = tuple(preprocessors)
        self._ahead = _Lookahead(self._batch, workers)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns batch `index`: images (batch, height, width, channels) and labels (batch,)."""
        return self._ahead[index]

    def _batch(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        raise NotImplementedError

    def _gather(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = self.images[indices]
        for preprocessor in self.preprocessors:
            images = preprocessor.preprocess(images)
        return images.astype(np.float32, copy=False), self.labels[indices]


class TrainingBatches(ImageBatches):
    """The batches of a whole training run, shuffled and augmented anew every epoch.

    To Keras this is one endless sequence, so that `fit` needs `steps_per_epoch`. Every image comes
    at most once an epoch; the last partial batch is dropped unless it is the only one.

    Args:
        images, labels, batch_size, preprocessors, workers: as for `ImageBatches`.
        augmenter: applied to the preprocessed images.
        seed: of the permutations and the augmentation.
        start_epoch: epochs already trained; batch 0 is the first of the epoch after them.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        batch_size: int,
        preprocessors: Sequence[Preprocessor] = (),
        augmenter: AffineAugmenter | None = None,
        seed: int = 0,
        start_epoch: int = 0,
        workers: int = 1,
    ):
        super().__init__(images, labels, batch_size, preprocessors, workers)
        self.augmenter = augmenter
        self.seed = seed
        self.start_epoch = start_epoch
        self.steps_per_epoch = max(1, len(images) // batch_size)
        self._permutation: tuple[int, np.ndarray] = (-1, np.empty(0))

    @property
    def num_batches(self) -> None:
        """None: the sequence has no end."""
        return None

    def batch(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Makes batch `index` of `epoch`, both from 0: a pure function of them and the seed."""
        order = self._order(epoch)
        images, labels = self._gather(order[index * self.batch_size :][: self.batch_size])
        if self.augmenter is not None:
            images = self.augmenter.augment(images, self._rng(epoch, index))
        return images, labels

    def _batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, step = divmod(index, self.steps_per_epoch)
        return self.batch(self.start_epoch + epoch, step)

    def _order(self, epoch: int) -> np.ndarray:
        # One tuple, replaced whole: threads in two epochs may compute it twice, never mix it.
        cached_epoch, order = self._permutation
        if cached_epoch != epoch:
            order = self._rng(epoch).permutation(len(self.images))
            self._permutation = (epoch, order)
        return order

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))


class EvaluationBatches(ImageBatches):
    """Every image once, in order, without augmentation, the last partial batch included."""

    @property
    def num_batches(self) -> int:
        """Number of batches in one pass."""
        return math.ceil(len(self.images) / self.batch_size)

    def _batch(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        start = index * self.batch_size
        if start >= len(self.images):
            return None
        return self._gather(np.arange(start, min(start + self.batch_size, len(self.images))))


class _Lookahead:
    """Computes `function(i)` for the numbers behind the one asked for, on threads."""

    def __init__(self, function: Any, workers: int):
        self._function = function
        self._workers = workers
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="batches")
        self._pending: dict[int, Future] = {}

    def __getitem__(self, index: int) -> Any:
        if self._process != os.getpid():
            self._start()  # threads do not survive a fork
        with self._lock:
            window = range(index, index + 2 * self._workers + 1)
            self._pending = {i: f for i, f in self._pending.items() if i in window}
            for i in window:
                if i not in self._pending:
                    self._pending[i] = self._pool.submit(self._function, i)
            future = self._pending[index]
        return future.result()
