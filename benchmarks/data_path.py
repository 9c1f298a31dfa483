"""Measure the way from image files to batches: the original's way and ours, side by side.

  python -m benchmarks.data_path
  python -m benchmarks.data_path ../shared/data

A minute on two cores. Everything runs in one process, the two ways in turn, and the medians are
printed. A build ends when its file is on disk; batches are made by a single thread. Absolute
figures depend on the machine and on what else it does: compare the ratios.
"""

import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from config import cifar10_config, tiny_imagenet_config
from pipeline import script
from pipeline.errors import UserError
from pipeline.options import Parser, positive_int

DEFAULT_FOLDERS = (Path("../datasets"), Path("../shared/data"))
BATCH_SIZE = 64
STEPS = 31  # batches a measurement, 1,984 images


def main() -> None:
    # options
    parser = Parser(__doc__)
    add = parser.add_argument
    add("folder", nargs="?", metavar="FOLDER", help="where cifar10 and tiny-imagenet-200 lie")
    add("--images", type=positive_int, default=10_000, metavar="N", help="in a build (10000)")
    add("--repeats", type=positive_int, default=5, metavar="N", help="default: %(default)s")
    args = parser.parse_args()
    folders = (Path(args.folder),) if args.folder else DEFAULT_FOLDERS
    root = _find(folders, "tiny-imagenet-200")
    cifar10 = _find(folders, "cifar10")

    # Only now, so that --help and wrong options are answered at once.
    from pipeline import backend

    backend.start()
    import cv2
    import numpy as np

    from benchmarks import original
    from pipeline.io.batches import TrainingBatches
    from pipeline.io.datasets import read_dataset
    from pipeline.io.hdf5datasetgenerator import HDF5DatasetGenerator
    from pipeline.io.tiny_imagenet import Split, list_train, read_label_names, write_split
    from pipeline.preprocessing.affineaugmenter import AffineAugmenter
    from pipeline.preprocessing.meanpreprocessor import MeanPreprocessor

    cv2.setNumThreads(1)
    rows = []

    def compare(work: str, count: int, *ways: Callable[[], None]) -> None:
        rates = [count / seconds for seconds in _medians(args.repeats, *ways)]
        rows.append((work, *rates, rates[1] / rates[0]))

    # data
    config = tiny_imagenet_config
    label_names = read_label_names(root / config.WORDNET_IDS, root / config.WORD_LABELS)
    classes = len(label_names)
    files, labels = list_train(root / config.TRAIN_IMAGES, label_names)
    chosen = np.random.default_rng(0).permutation(len(files))[: args.images]
    split = Split([files[index] for index in chosen], labels[chosen])
    with tempfile.TemporaryDirectory() as folder:
        # Tiny ImageNet: JPEGs to HDF5
        old, new = Path(folder, "original.hdf5"), Path(folder, "ours.hdf5")

        def build_old() -> None:
            original.build(*split, old)
            with open(old, "rb") as file:
                os.fsync(file)

        def build_new() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                new.unlink(missing_ok=True)
                write_split(split, new, config.IMAGE_SIZE, label_names)

        count = len(split.files)
        compare("build, images/s", count, build_old, build_new)
        sizes = [path.stat().st_size / count for path in (old, new)]
        rows.append(("build, bytes an image", *sizes, sizes[0] / sizes[1]))

        # Tiny ImageNet: HDF5 to batches
        colour = original.build(*split, old)
        preprocessors = [MeanPreprocessor(colour[::-1])]
        data = HDF5DatasetGenerator(new, classes, config.IMAGE_SIZE)
        augmenter = AffineAugmenter(**config.AUGMENTATION)
        training = data.training_batches(BATCH_SIZE, preprocessors, augmenter)
        evaluation = data.evaluation_batches(BATCH_SIZE, preprocessors)
        steps = min(STEPS, training.steps_per_epoch)

        def original_batches(augmentation: dict | None = None) -> Iterator:
            return original.hdf5_batches(old, colour, classes, BATCH_SIZE, augmentation)

        compare(
            "training batches, Tiny ImageNet, images/s",
            steps * BATCH_SIZE,
            lambda: _exhaust(islice(original_batches(config.AUGMENTATION), steps)),
            lambda: _exhaust(training.batch(0, step) for step in range(steps)),
        )
        compare(
            "evaluation batches, Tiny ImageNet, images/s",
            steps * BATCH_SIZE,
            lambda: _exhaust(islice(original_batches(), steps)),
            lambda: _exhaust(evaluation[step] for step in range(steps)),
        )

    # CIFAR-10: arrays to batches
    cifar = read_dataset("cifar10", str(cifar10))
    images, labels = cifar.train_images, cifar.train_labels
    mean = MeanPreprocessor.of_images(images)
    augmentation = cifar10_config.AUGMENTATION["cifar10"]
    augmenter = AffineAugmenter(**augmentation)
    training = TrainingBatches(images, labels, BATCH_SIZE, [mean], augmenter)
    steps = min(STEPS, training.steps_per_epoch)
    centred = mean.preprocess(images)
    compare(
        "training batches, CIFAR-10, images/s",
        steps * BATCH_SIZE,
        lambda: _exhaust(
            islice(original.array_batches(centred, labels, 10, BATCH_SIZE, augmentation), steps)
        ),
        lambda: _exhaust(training.batch(0, step) for step in range(steps)),
    )

    # report
    print("| work | original | here | times better |\n| --- | ---: | ---: | ---: |")
    for work, original_figure, our_figure, ratio in rows:
        print(f"| {work} | {original_figure:,.0f} | {our_figure:,.0f} | {ratio:.1f} |")


def _medians(repeats: int, *ways: Callable[[], None]) -> list[float]:
    """Returns the median seconds of each way, taken in turn after a run to warm up."""
    seconds = [[] for _ in ways]
    for repeat in range(repeats + 1):
        for way, taken in zip(ways, seconds, strict=True):
            start = time.perf_counter()
            way()
            if repeat:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def _exhaust(batches: Iterable) -> None:
    for _ in batches:
        pass


def _find(folders: Iterable[Path], name: str) -> Path:
    """Returns the first folder of a data set, or of its sample, that there is."""
    candidates = [folder / (name + suffix) for folder in folders for suffix in ("", "-sample")]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise UserError(f"{candidates[0]}: there is no such folder; name the one above it")


if __name__ == "__main__":
    script.run(main)
