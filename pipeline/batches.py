"""Batches of images that depend on nothing but the seed, the epoch and their place in it."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from pipeline.augmentation.batchrng import BatchRng
from pipeline.augmentation.mixing import CutMix, mixed
from pipeline.errors import Stopped, UserError
from pipeline.io.dataset import Images

Preprocess = Callable[[np.ndarray], np.ndarray]
"""Turns a batch of images into another."""

Augment = Callable[[np.ndarray, BatchRng], np.ndarray]
"""Turns a batch of images at random into another, which may be the array that it was given."""


WHOLE = (0, 1)


class ImageBatches(keras.utils.PyDataset):
    """What training and evaluation batches share: images, labels and making batches ahead.

    Keras's own workers are not used: after an epoch's end or a restart they hand out the batches
    that they had read ahead, as if these were the next epoch's. Here threads make batches ahead by
    number, so that a batch asked for is always the batch of that number.

    Args:
        images: uint8 images, an array or anything that is indexed like one.
        labels: integer class ids, (n,).
        batch_size: images a batch.
        workers: threads that make batches ahead.
        classes: number of classes, where labels are to come as float32 (batch, classes) and not as
            integers (batch,).
        share: which of how many equal parts of every batch is made, (0, 1) being all of it. Images
            of the other parts are not even read, but where they are mixed into this one's.

    Raises:
        ValueError: no images, or not one label an image, or a size below 1.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        batch_size: int,
        workers: int = 1,
        classes: int | None = None,
        share: tuple[int, int] = WHOLE,
    ):
        super().__init__()
        if len(images) != len(labels) or not len(images):
            raise ValueError(f"got {len(images)} images and {len(labels)} labels")
        if batch_size < 1 or workers < 1:
            raise ValueError(f"got batch_size {batch_size} and workers {workers}: both start at 1")
        self.images = images
        self.labels = np.asarray(labels, dtype=np.int32)
        self.batch_size = batch_size
        self.share = share
        self._one_hot = np.eye(classes, dtype=np.float32) if classes else None
        self._ahead = _Lookahead(self._batch, workers)
        self.failure: UserError | None = None

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Returns batch `index`: images (batch, height, width, channels), labels, and weights."""
        try:
            return self._ahead[index]
        except UserError as error:
            self.failure = error
            raise

    def stop(self) -> None:
        """Makes no more batches ahead; from now on there are none to be had by their number."""
        self._ahead.stop()

    def _batch(self, index: int) -> tuple[np.ndarray, ...] | None:
        raise NotImplementedError

    def _own(self, count: int) -> slice:
        """Returns the place, in a batch of `count` images, of those that are made here."""
        part, parts = self.share
        return slice(part * count // parts, (part + 1) * count // parts)

    def _targets(self, indices: np.ndarray) -> np.ndarray:
        labels = self.labels[indices]
        return labels if self._one_hot is None else self._one_hot[labels]


@contextmanager
def original_errors(*batches: ImageBatches) -> Iterator[None]:
    """Raises the error that reading batches ended with instead of what a backend makes of it.

    TensorFlow runs `__getitem__` in an operation of its own, whose failure has another type.
    """
    try:
        yield
    except Stopped:  # amid good batches; the failure is of one that was made ahead
        raise
    except Exception as error:
        failures = [source.failure for source in batches if source.failure]
        if failures:
            raise failures[0] from error
        raise


class TrainingBatches(ImageBatches):
    """The batches of a whole training run, shuffled and augmented anew every epoch.

    Every image comes at most once an epoch; the last partial batch is dropped unless it is the only
    one. Batches are numbered on from epoch to epoch, `batches[steps_per_epoch]` is the first of the
    second.

    Any model's `fit` takes them, an epoch at a time; since Keras tells a data set nothing of the
    epoch, every `fit` goes on where the one before has ended. For the exact batches of an epoch,
    whatever Keras reads ahead, see `endless`.

    Args:
        images, labels, batch_size, workers, classes, share: as for `ImageBatches`.
        steps: applied to every batch in turn, each with the random numbers of the batch; the
            result is turned into float32.
        seed: of the permutations and the augmentation.
        start_epoch: epochs already trained; batch 0 is the first of the epoch after them.
        start_batch: batches of that epoch already trained, by which batch 0 is a later one.
        mixer: applied to the batch in the end; its labels have to be one-hot.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        batch_size: int,
        steps: Sequence[Augment] = (),
        seed: int = 0,
        start_epoch: int = 0,
        workers: int = 1,
        classes: int | None = None,
        mixer: CutMix | None = None,
        share: tuple[int, int] = WHOLE,
        start_batch: int = 0,
    ):
        super().__init__(images, labels, min(batch_size, len(images)), workers, classes, share)
        self.steps = tuple(steps)
        self.mixer = mixer
        self.seed = seed
        self.start_epoch, self.start_batch = start_epoch, start_batch
        self.steps_per_epoch = len(images) // self.batch_size
        self._passes = 0  # that Keras has begun
        self._permutation: tuple[int, np.ndarray] = (-1, np.empty(0))

    @property
    def num_batches(self) -> int:
        """Number of batches in an epoch."""
        return self.steps_per_epoch

    def on_epoch_begin(self) -> None:
        """Lets Keras, which counts from 0 again, go on to the next epoch."""
        self._passes += 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns batch `index` of the whole run, or of the epoch that Keras has begun."""
        return super().__getitem__(max(0, self._passes - 1) * self.steps_per_epoch + index)

    def endless(self) -> keras.utils.PyDataset:
        """Returns the batches of all epochs as one sequence, whose number says what a batch is."""
        return _Endless(self)

    def batch(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Makes batch `index` of `epoch`, both from 0: a pure function of them and the seed."""
        indices = self._order(epoch)[index * self.batch_size :][: self.batch_size]
        own = self._own(len(indices))
        if self.mixer is not None and self.share != WHOLE:
            return self._mixed(epoch, index, indices, own)
        rng = BatchRng(self.seed, epoch, index, indices, own)
        images, labels = self._made(rng, indices), self._targets(rng.indices)
        if self.mixer is not None:
            images, labels = self.mixer(images, labels, rng)
        return images, labels

    def _made(self, rng: BatchRng, indices: np.ndarray) -> np.ndarray:
        # Photographs are not read before they are cropped, for which the whole batch is drawn.
        unread = getattr(self.images, "dtype", None) == np.dtype(object)
        images = self.images[indices if unread else rng.indices]
        for step in self.steps:
            images = step(images, rng)
        return images.astype(np.float32, copy=False)

    def _mixed(
        self, epoch: int, index: int, indices: np.ndarray, own: slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """Makes a part of a batch, and the images of other parts that are mixed into it."""
        labels = self._targets(indices)
        # Which these are comes last of all that is drawn: first, no image is made.
        rng = BatchRng(self.seed, epoch, index, indices, np.arange(0))
        mix = self.mixer.draw(self._made(rng, indices).shape[1:3], rng)
        if mix is None:
            return self._made(BatchRng(self.seed, epoch, index, indices, own), indices), labels[own]
        others = mix.others[own]
        rows, places = np.unique(
            np.concatenate([np.arange(len(indices))[own], others]), return_inverse=True
        )
        made = self._made(BatchRng(self.seed, epoch, index, indices, rows), indices)
        places, other_places = np.split(places, 2)
        images = made[places]
        images[:, mix.rows, mix.columns] = made[other_places, mix.rows, mix.columns]
        return images, mixed(labels[own], labels[others], mix.share)

    def _batch(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, step = divmod(self.start_batch + index, self.steps_per_epoch)
        return self.batch(self.start_epoch + epoch, step)

    def _order(self, epoch: int) -> np.ndarray:
        # One tuple, replaced whole: threads in two epochs may compute it twice, never mix it.
        cached_epoch, order = self._permutation
        if cached_epoch != epoch:
            sequence = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
            order = np.random.default_rng(sequence).permutation(len(self.images))
            self._permutation = (epoch, order)
        return order


class _Endless(keras.utils.PyDataset):
    def __init__(self, batches: TrainingBatches):
        super().__init__()
        self._batches = batches

    @property
    def num_batches(self) -> None:
        return None

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        return self._batches[number]


class EvaluationBatches(ImageBatches):
    """Every image once, in order, without augmentation, the last partial batch included.

    Args:
        images, labels, batch_size, workers, classes, share: as for `ImageBatches`.
        preprocess: applied to every batch; the result is turned into float32.
        padded: whether the last batch is filled up, for several devices to divide. Then batches
            have weights, float32 (batch,): that of what it is filled with is 0, and those of the
            images are such that means over all batches are means over all images.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        batch_size: int,
        preprocess: Preprocess | None = None,
        workers: int = 1,
        classes: int | None = None,
        padded: bool = False,
        share: tuple[int, int] = WHOLE,
    ):
        super().__init__(images, labels, batch_size, workers, classes, share)
        self.preprocess = preprocess
        self.padded = padded and len(images) % batch_size > 0

    @property
    def num_batches(self) -> int:
        """Number of batches in one pass."""
        return math.ceil(len(self.images) / self.batch_size)

    def _batch(self, index: int) -> tuple[np.ndarray, ...] | None:
        start = index * self.batch_size
        if start >= len(self.images):
            return None
        indices = np.arange(start, min(start + self.batch_size, len(self.images)))
        own = self._own(self.batch_size if self.padded else len(indices))
        indices = indices[own]
        images = self.images[indices]
        if self.preprocess is not None:
            images = self.preprocess(images)
        images, labels = images.astype(np.float32, copy=False), self._targets(indices)
        if not self.padded:
            return images, labels
        weight = self.num_batches * self.batch_size / len(self.images)
        weights = np.full(len(indices), weight, np.float32)
        missing = own.stop - own.start - len(indices)
        return tuple(
            np.pad(values, [(0, missing)] + [(0, 0)] * (values.ndim - 1))
            for values in (images, labels, weights)
        )


class _Lookahead:
    """Computes `function(i)` for the numbers after the one asked for, on threads."""

    def __init__(self, function: Any, workers: int):
        self._function = function
        self._workers = workers
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._next = 0
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="batches")
        self._pending: dict[int, Future] = {}

    def __getitem__(self, index: int) -> Any:
        if self._process != os.getpid():
            self._start()  # threads do not survive a fork
        with self._lock:
            # Only of what is asked for in order: Keras's `fit` shuffles the numbers by default.
            ahead = 2 * self._workers if index in (0, self._next) else 0
            window, self._next = range(index, index + ahead + 1), index + 1
            self._pending = {i: f for i, f in self._pending.items() if i in window}
            for i in window:
                if i not in self._pending:
                    self._pending[i] = self._pool.submit(self._function, i)
            future = self._pending[index]
        return future.result()

    def stop(self) -> None:
        """Cancels what has not been begun, and keeps no results."""
        with self._lock:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pending = {}
