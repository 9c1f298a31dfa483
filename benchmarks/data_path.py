"""Measure the way from image files to batches: the original's way and ours, side by side.

  python -m benchmarks.data_path
  python -m benchmarks.data_path output/miniatures

Two minutes on two cores; in miniature, as make_miniatures.py makes them, the data sets show that it
works and not how fast. Everything runs in one process, the two ways in turn. A build ends when
its file is on disk; our batches are made by two threads. Absolute figures depend on the machine and
on what else it does: compare the ratios.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.table import Row, machine, markdown
from config import cifar10_config
from config import tiny_imagenet_config as config
from pipeline.command_line import script
from pipeline.command_line.options import Parser, positive_int
from pipeline.errors import UserError
from pipeline.training.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.batches import TrainingBatches
    from pipeline.io.dataset import Dataset

DEFAULT_FOLDER = "../datasets"
FOLDER_HELP = "where cifar10 and tiny-imagenet-200 lie (default: %(default)s)"
BATCH_SIZE = 64
WORKERS = 2
STEPS = 31  # batches of a measurement of the original's way
OUR_STEPS = 10 * STEPS  # as long a time
SECONDS_AN_EPOCH = 2  # of CIFAR-10 on one GPU: 150 epochs in five minutes
PEER = "the original's way"


def main() -> None:
    # options
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.data_path"
    add = parser.add_argument
    add("folder", nargs="?", default=DEFAULT_FOLDER, metavar="FOLDER", help=FOLDER_HELP)
    add("--images", type=positive_int, default=10_000, metavar="N", help="images a build (10000)")
    add("--repeats", type=positive_int, default=5, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    cifar10, tiny_imagenet = folders(args.folder)

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start()

    # report
    measured = rows(cifar10, tiny_imagenet, args.repeats, args.images)
    print(f"{machine()}\n\n{markdown(measured)}")


def folders(parent: str) -> tuple[Path, Path]:
    """Returns the folders of CIFAR-10 and of Tiny ImageNet, which lie in `parent`.

    Raises:
        UserError: one of them is missing.
    """
    found = Path(parent, "cifar10"), Path(parent, "tiny-imagenet-200")
    for folder in found:
        if not folder.is_dir():
            raise UserError(f"{folder}: there is no such folder; name the one above it")
    return found


def rows(cifar10: Path, tiny_imagenet: Path, repeats: int, count: int = 10_000) -> list[Row]:
    """Measures everything.

    Args:
        cifar10: the data set's folder.
        tiny_imagenet: the data set's folder.
        repeats: how often.
        count: images in a build.
    """
    import cv2
    import numpy as np

    from benchmarks import original
    from pipeline.batches import EvaluationBatches
    from pipeline.io.cifar10 import read_cifar10
    from pipeline.io.dataset import Dataset
    from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
    from pipeline.io.tiny_imagenet import Split, list_train, read_label_names, write_split
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor

    cv2.setNumThreads(1)
    measured = []

    # data
    label_names = read_label_names(
        tiny_imagenet / config.WORDNET_IDS, tiny_imagenet / config.WORD_LABELS
    )
    classes = len(label_names)
    files, labels = list_train(tiny_imagenet / config.TRAIN_IMAGES, label_names)
    chosen = np.random.default_rng(0).permutation(len(files))[:count]
    split = Split([files[index] for index in chosen], labels[chosen])
    count = len(chosen)
    with tempfile.TemporaryDirectory() as folder:
        # Tiny ImageNet: JPEGs to HDF5
        old, new = Path(folder, "original.hdf5"), Path(folder, "ours.hdf5")

        def build() -> int:
            with contextlib.redirect_stdout(io.StringIO()):
                new.unlink(missing_ok=True)
                write_split(split, new, config.IMAGE_SIZE, label_names)
            return count

        colours = []

        def build_as_the_original() -> int:
            colours.append(original.build(*split, old))
            with open(old, "rb") as file:
                os.fsync(file)
            return count

        rates = _rates(repeats, build, build_as_the_original)
        measured.append(Row("building the HDF5 file, images/s", PEER, *rates, (">=", 4)))
        sizes = ([path.stat().st_size / count] for path in (new, old))
        measured.append(Row("its size, bytes an image", PEER, *sizes, ("<=", 0.2)))

        # Tiny ImageNet: HDF5 to batches
        colour = colours[-1]
        opened = HDF5DatasetGenerator(new)
        contents = (opened.images, opened.labels)
        data = Dataset(*contents, *contents, opened.class_names, colour[::-1])
        training = _batches(data, config.FAITHFUL)
        evaluation = EvaluationBatches(
            *contents, BATCH_SIZE, MeanPreprocessor(data.mean).preprocess, WORKERS
        )

        def original_batches(augmentation: dict | None = None) -> Iterator:
            return original.hdf5_batches(old, colour, classes, BATCH_SIZE, augmentation)

        rates = _rates(
            repeats,
            lambda: _exhaust(training[step] for step in range(OUR_STEPS)),
            lambda: _exhaust(islice(original_batches(config.FAITHFUL.affine), STEPS)),
        )
        measured.append(Row("augmented batches, Tiny ImageNet, images/s", PEER, *rates, (">=", 40)))
        rates = _rates(
            repeats,
            lambda: _exhaust(evaluation[step] for step in range(evaluation.num_batches)),
            lambda: _exhaust(islice(original_batches(), STEPS)),
        )
        measured.append(
            Row("evaluation batches, Tiny ImageNet, images/s", PEER, *rates, (">=", 15))
        )

    # CIFAR-10: arrays to batches
    data = read_cifar10(str(cifar10))
    training = _batches(data, cifar10_config.FAITHFUL)
    centred = MeanPreprocessor(data.mean).preprocess(data.train_images)
    theirs = original.array_batches(
        centred, data.train_labels, 10, BATCH_SIZE, cifar10_config.FAITHFUL.affine
    )
    rates = _rates(
        repeats,
        lambda: _exhaust(training[step] for step in range(OUR_STEPS)),
        lambda: _exhaust(islice(theirs, STEPS)),
    )
    measured.append(Row("augmented batches, CIFAR-10, images/s", PEER, *rates, (">=", 40)))
    return [*measured, *_a_core(data, repeats)]


def _a_core(data: Dataset, repeats: int) -> list[Row]:
    """Measures what a core makes of CIFAR-10 by each recipe, and TrivialAugment beside Pillow's."""
    import numpy as np

    from benchmarks import pillow
    from pipeline.augmentation.trivialaugment import LEVELS, OPERATIONS

    draw = np.random.default_rng(0)
    images = data.train_images[draw.permutation(len(data.train_images))[:BATCH_SIZE]]
    strengths = draw.integers(LEVELS, size=len(images)) / (LEVELS - 1)

    def ours() -> int:
        for operation in OPERATIONS.values():
            operation.apply(images, strengths * operation.largest)
        return len(OPERATIONS) * len(images)

    def theirs() -> int:
        for name, operation in OPERATIONS.items():
            pillow.apply(name, images, strengths * operation.largest)
        return len(OPERATIONS) * len(images)

    def batches(recipe: Recipe) -> int:
        training = _batches(data, recipe, workers=1)
        return _exhaust(training[step] for step in range(OUR_STEPS))

    rates = _rates(repeats, lambda: sum(ours() for _ in range(STEPS)), theirs)
    work = "TrivialAugment's operations on CIFAR-10, images/s a core"
    measured = [Row(work, "Pillow's", *rates, (">=", 3))]
    for name, recipe in cifar10_config.RECIPES.items():
        (rates,) = _rates(repeats, partial(batches, recipe))
        taken = [4 * len(data.train_images) / SECONDS_AN_EPOCH / 16] * repeats
        work = f"batches of CIFAR-10 by the recipe {name}, images/s a core"
        peer = f"what 4 GPUs take of each of 16 cores, at {SECONDS_AN_EPOCH} s an epoch"
        measured.append(Row(work, peer, rates, taken, (">=", 1)))
    return measured


def _batches(data: Dataset, recipe: Recipe, workers: int = WORKERS) -> TrainingBatches:
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor
    from pipeline.training.assembly import make_training

    recipe = replace(recipe, batch_size=BATCH_SIZE)
    return make_training(recipe, data, MeanPreprocessor(data.mean).preprocess, workers=workers)


def _rates(repeats: int, *ways: Callable[[], int]) -> list[list[float]]:
    """Returns the images a second of each way, taken in turn after a run to warm up."""
    rates = [[] for _ in ways]
    for repeat in range(repeats + 1):
        for way, taken in zip(ways, rates, strict=True):
            start = time.perf_counter()
            count = way()
            if repeat:
                taken.append(count / (time.perf_counter() - start))
    return rates


def _exhaust(batches: Iterable) -> int:
    """Returns the number of images in all batches."""
    return sum(len(labels) for _, labels in batches)


if __name__ == "__main__":
    script.run(main)
