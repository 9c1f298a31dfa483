"""Tiny ImageNet: what lies in its folder, and writing it into HDF5 files."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from pipeline.errors import BadImages, UserError
from pipeline.files.reading import read_lines
from pipeline.io.hdf5datasetwriter import HDF5DatasetWriter, Origin
from pipeline.io.imagefiles import list_images, progress_bar, read_images

LabelNames = tuple[tuple[str, str], ...]


class Split(NamedTuple):
    """Image files and their labels."""

    files: list[str]
    labels: np.ndarray
    """int32 (n,), indices into the label names."""


def read_label_names(wordnet_ids: Path, word_labels: Path) -> LabelNames:
    """Returns WordNet id and words of each class in the order of the ids, which is the labels'.

    Args:
        wordnet_ids: the file with one id a line.
        word_labels: the file with an id, a tab and its words on each line; may have other ids too.

    Raises:
        UserError: a file is no text, or there are no ids, one twice, or one without words.
    """
    ids = [line.strip() for line in read_lines(wordnet_ids)]
    if not ids or len(set(ids)) < len(ids):
        raise UserError(f"{wordnet_ids} must name each class once: got {len(ids)} lines")
    words = dict(line.split("\t", 1) for line in read_lines(word_labels) if "\t" in line)
    if missing := sorted(set(ids) - set(words)):
        raise UserError(f"{word_labels} has no words for {missing[0]}")
    return tuple((wordnet_id, words[wordnet_id].strip()) for wordnet_id in sorted(ids))


def list_train(folder: Path, label_names: LabelNames) -> Split:
    """Lists the training images, which lie in one folder a class.

    Raises:
        UserError: a folder is missing, or is none of a class.
        OSError: `folder` cannot be read.
    """
    ids = [wordnet_id for wordnet_id, _ in label_names]
    folders = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    if missing := sorted(set(ids) - folders):
        raise UserError(f"{folder / missing[0]}: the folder of this class is missing")
    if unknown := sorted(name for name in folders - set(ids) if not name.startswith(".")):
        raise UserError(f"{folder / unknown[0]} is the folder of no known class")
    classes = [_images(folder / wordnet_id) for wordnet_id in ids]
    labels = np.repeat(np.arange(len(ids), dtype=np.int32), [len(files) for files in classes])
    return Split([file for files in classes for file in files], labels)


def list_val(
    folder: Path,
    annotations: Path,
    label_names: LabelNames,
    on_bad: Callable[[str], None],
) -> Split:
    """Lists the validation images, which lie in one folder, with the labels of a file.

    Args:
        folder: the images.
        annotations: has an image's file name, a tab and its class's id on each line; what follows
            another tab, the boxes, is passed over.
        label_names: ids and words of the classes.
        on_bad: called with what is wrong with an image without a label, or a label without an
            image; if it returns, the image or the label is left out.

    Raises:
        UserError: `annotations` is no such file, or there are no images.
    """
    number = {wordnet_id: label for label, (wordnet_id, _) in enumerate(label_names)}
    label_of: dict[str, int] = {}
    for line_number, line in enumerate(read_lines(annotations), start=1):
        name, wordnet_id, *_ = [*line.split("\t"), "", ""]
        label = number.get(wordnet_id.strip())
        if label is None or label_of.setdefault(name, label) != label:
            raise UserError(
                f"{annotations}, line {line_number}: expected an image and the id of its one class"
            )
    images = {Path(file).name: file for file in _images(folder)}
    for name in sorted(images.keys() - label_of.keys()):
        on_bad(f"{images[name]} has no label in {annotations}")
    for name in sorted(label_of.keys() - images.keys()):
        on_bad(f"{folder / name} is missing, and {annotations} has a label for it")
    names = [name for name in images if name in label_of]
    if not names:
        raise UserError(f"{folder} has no images")
    labels = np.array([label_of[name] for name in names], dtype=np.int32)
    return Split([images[name] for name in names], labels)


def hold_out(
    split: Split, per_class: int, seed: int, label_names: LabelNames
) -> tuple[Split, Split]:
    """Parts a split in two at random.

    Args:
        split: what to part.
        per_class: how many images of each class the second part gets.
        seed: of the choice.
        label_names: ids and words of the classes.

    Returns:
        The first part and the second, each in random order.

    Raises:
        UserError: a class has too few images.
    """
    ids = [wordnet_id for wordnet_id, _ in label_names]
    counts = np.bincount(split.labels, minlength=len(ids))
    if counts.min() <= per_class:
        raise UserError(
            f"class {ids[counts.argmin()]} has {counts.min()} training images: "
            f"too few to hold out {per_class} and keep some"
        )
    labels = split.labels
    kept, held_out = train_test_split(
        np.arange(len(labels)), test_size=per_class * len(ids), stratify=labels, random_state=seed
    )
    if (np.bincount(labels[held_out]) != per_class).any():  # it took more of larger classes
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(labels))
        of_class = (order[labels[order] == label] for label in range(len(ids)))
        held_out = rng.permutation(np.concatenate([images[:per_class] for images in of_class]))
        kept = order[~np.isin(order, held_out)]

    def part(indices: np.ndarray) -> Split:
        return Split([split.files[index] for index in indices], labels[indices])

    return part(kept), part(held_out)


def without_bad(split: Split, size: int, on_bad: Callable[[str], None]) -> Split:
    """Decodes all images and leaves out those that cannot be used.

    Args:
        split: what to check.
        size: how many pixels wide and high an image must be.
        on_bad: called with what is wrong with an image.

    Raises:
        UserError: no image is left.
    """
    good = np.ones(len(split.files), dtype=bool)
    done = 0
    with progress_bar("checking", len(split.files)) as progress:
        for images, problems in read_images(split.files, (size, size)):
            for index, problem in problems.items():
                on_bad(str(problem))
                good[done + index] = False
            done += len(images)
            progress.update(len(images))
    if not good.any():
        raise UserError(f"{split.files[0]} and the other {done - 1} images cannot be used")
    return Split(list(compress(split.files, good)), split.labels[good])


def build_id(root: Path, label_names: LabelNames, splits: Sequence[Split]) -> str:
    """Returns a checksum of which images, with which labels and classes, the splits have.

    Args:
        root: the data set's folder, which does not matter.
        label_names: ids and words of the classes.
        splits: the splits.
    """
    listed = [
        [[os.path.relpath(file, root) for file in split.files], split.labels.tolist()]
        for split in splits
    ]
    return hashlib.sha256(json.dumps([label_names, listed]).encode()).hexdigest()


def write_split(
    split: Split,
    path: Path,
    size: int,
    label_names: LabelNames,
    build: str | None = None,
    mean: np.ndarray | None = None,
) -> np.ndarray:
    """Decodes a split's images into an HDF5 file, `path`.

    Args:
        split: what to write.
        path: the file; see `HDF5DatasetWriter`.
        size: how many pixels wide and high the images must be.
        label_names: ids and words of the classes.
        build: id of the build, which goes into the file with the split's name and the mean.
        mean: of the training images' red, green and blue; without it, this split's own.

    Returns:
        The mean of the images' red, green and blue, float64 (3,).

    Raises:
        UserError: an image cannot be used, or the file cannot be written.
    """
    total = np.zeros((size, size, 3), dtype=np.int64)
    done = 0
    dims = (len(split.files), size, size, 3)
    origin = Origin(path.stem, build) if build else None
    # One block is written while the next is decoded.
    with (
        HDF5DatasetWriter(dims, path, label_names, origin=origin) as writer,
        ThreadPoolExecutor(1) as background,
        progress_bar(path.stem, len(split.files)) as progress,
    ):
        writing = background.submit(lambda: None)
        for images, problems in read_images(split.files, (size, size)):
            if problems:
                raise BadImages(str(next(iter(problems.values()))))
            writing.result()
            writing = background.submit(writer.add, images, split.labels[done:][: len(images)])
            total += images.sum(axis=0, dtype=np.uint32)  # enough for a block
            done += len(images)
            progress.update(len(images))
        writing.result()
        own_mean = total.mean(axis=(0, 1)) / done
        writer.mean = own_mean if mean is None else mean
    return own_mean


def _images(folder: Path) -> list[str]:
    # In the order of their numbers, val_9 before val_10; the same on every file system.
    return sorted(list_images(folder), key=lambda file: (len(file), file))
