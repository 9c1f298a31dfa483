"""Pictures in a folder for each class."""

import hashlib
import itertools
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from pipeline.errors import BadImages, UserError, one_line
from pipeline.io.dataset import Dataset
from pipeline.io.imagefiles import SUFFIXES, list_images, progress_bar, read_images

TRAIN, VAL, TEST = "train", "val", "test"
HELD_OUT = 0.2  # share of the images that stands in for val and test
LAYOUT = "it must have a folder for each class, or train and val with a folder for each class"
SHOWN = 3  # names in a message

Classes = dict[str, list[str]]
"""The files of each class, both in alphabetical order."""


def holds_image_folders(root: Path) -> bool:
    """Says whether a folder looks as `read_image_folders` needs it."""
    classes = class_names(root)
    alone = len(classes) > 1 and all(_has_pictures(root / name) for name in classes)
    return (root / TRAIN).is_dir() or alone


def read_image_folders(root: Path, size: int, skip_bad: bool = False) -> Dataset:
    """Reads pictures in `<class>/`, or in `train/<class>/` with `val` or `test` or both beside it.

    Where both are there, `val` is validated on and `test` is reported on at the end. Where neither
    is, one image in five is held out to evaluate on, the same share of every class and always the
    same ones.

    Args:
        root: the folder.
        size: how many pixels wide and high each picture must be.
        skip_bad: whether to go on without pictures that cannot be used.

    Returns:
        The data set; its classes are the folders' names in alphabetical order.

    Raises:
        UserError: see `find_classes`, or nothing of a class can be used for training.
        BadImages: pictures cannot be used; all of them have been printed.
    """
    found = find_classes(root, (VAL, TEST))
    names = tuple(found[TRAIN])
    bad: dict[str, str] = {}
    parts = {part: _read(classes, size, bad, part) for part, classes in found.items()}
    if bad:
        refuse_bad(bad, sum(len(labels) for _, labels in parts.values()) + len(bad), skip_bad)
    images, labels = parts.pop(TRAIN)
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        raise UserError(f"{root} has no pictures of {names[counts.argmin()]} to train on")
    for part, (_, there) in parts.items():
        if not len(there):
            raise UserError(f"{root / part} has no pictures that can be used")
        if missing := set(names) - {names[label] for label in np.unique(there)}:
            warning = one_line(f"warning: {root / part} has no images of {some(missing)}")
            print(warning, file=sys.stderr)
    test_images, test_labels = parts[TEST] if len(parts) == 2 else (None, None)
    validation = parts.get(VAL) or parts.get(TEST) or (images[:0], labels[:0])
    data = Dataset(
        images,
        labels,
        *validation,
        names,
        name=root.resolve().name,
        val_part="" if VAL in parts else "test set",
        fingerprint=_fingerprint(images, labels, *validation),
        test_images=test_images,
        test_labels=test_labels,
    )
    if not parts:
        return data.with_held_out(max(round(HELD_OUT * len(labels)), len(names)))
    return data


def find_classes(root: Path, parts: Iterable[str]) -> dict[str, Classes]:
    """Finds the pictures in a folder for each class, or in `train` and the parts beside it.

    Args:
        root: the folder.
        parts: what may stand beside `train`, to evaluate on.

    Returns:
        The files to train on, as `train`, and those of each of the parts that are there, by the
        same classes.

    Raises:
        UserError: there are no two classes, one has no files to train on, a part has none at all,
            or classes of its own.
    """
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder")
    divided = (root / TRAIN).is_dir()
    train = root / TRAIN if divided else root
    training = _classes(train)
    if len(training) < 2:
        if divided and _has_pictures(train):
            raise UserError(
                f"{train} holds pictures itself: if it is a class, rename it, as train is what "
                "the pictures to train on are called"
            )
        raise UserError(f"{train} has fewer than two folders of classes: {LAYOUT}")
    if empty := [name for name, files in training.items() if not files]:
        suffixes = ", ".join(SUFFIXES)
        raise UserError(f"{train} has no pictures in {some(empty)}; pictures are {suffixes}")
    if note := _beside(root) if divided else _below(root, training):
        print(one_line(f"note: {note}"))
    found = {TRAIN: training}
    for part in parts:
        if not (divided and (root / part).is_dir()):
            continue
        classes = _classes(root / part)
        if unknown := classes.keys() - training.keys():
            raise UserError(f"{root / part} has classes that {TRAIN} lacks: {some(unknown)}")
        if not any(classes.values()):
            raise UserError(f"{root / part} has no pictures in folders of classes")
        found[part] = {name: classes.get(name, []) for name in training}
    return found


def _beside(root: Path) -> str | None:
    names = set(class_names(root)) - {TRAIN, VAL, TEST}
    others = [name for name in names if any(list_images(root / name))]
    if not others:
        return None
    return (
        f"ignored beside {root / TRAIN}: {some(others)}; pictures to evaluate on lie in {TEST} or "
        f"{VAL}"
    )


def _below(root: Path, training: Classes) -> str | None:
    names, *others = (
        {_folder_in(root / name, file) for file in files} for name, files in training.items()
    )
    if len(names) < 2 or "" in names or any(other != names for other in others):
        return None
    return (
        f"within each class, {some(training)}, the pictures lie in folders of the same names, "
        f"{some(names)}: if these are the classes, call the folders above them train, val and test"
    )


def _folder_in(folder: Path, file: str) -> str:
    """Returns the name of the folder in `folder` below which a file lies, "" where it has none."""
    name, below, _ = file[len(f"{folder}/") :].partition("/")
    return name if below else ""


def class_names(folder: Path) -> tuple[str, ...]:
    """Returns the names of the folders in a folder, those of classes, in alphabetical order."""
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return tuple(sorted(entry.name for entry in entries if entry.is_dir()))


def lie_divided(names: Iterable[str]) -> bool:
    """Says whether pictures of these names, paths from their folder, lie in `train` and beside."""
    return any(name.startswith(f"{TRAIN}/") for name in names)


def all_files(classes: Classes) -> list[str]:
    """Returns the files of all classes, one class after the other."""
    return list(itertools.chain.from_iterable(classes.values()))


def labels_of(classes: Classes) -> np.ndarray:
    """Returns the labels of all classes' files, int32 (n,)."""
    counts = [len(files) for files in classes.values()]
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def refuse_bad(bad: Mapping[str, str], count: int, skip_bad: bool) -> None:
    """Prints what is wrong with pictures that cannot be used.

    Args:
        bad: what is wrong with each, by its file.
        count: of all pictures.
        skip_bad: whether to go on without them.

    Raises:
        BadImages: it is not to go on without them.
    """
    print(*(one_line(f"bad: {problem}") for problem in bad.values()), sep="\n")
    found = f"{len(bad):,} of {count:,} pictures cannot be used"
    if not skip_bad:
        files = some(os.path.basename(file) for file in bad)
        raise BadImages(f"{found}, {files}: mend or remove those listed above")
    print(f"{found} and are left out")


def some(names: Iterable[str]) -> str:
    """Returns the first few names, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _has_pictures(folder: Path) -> bool:
    # Not below it: that could be the whole disk.
    return any(entry.suffix.lower() in SUFFIXES for entry in folder.iterdir())


def _classes(folder: Path) -> Classes:
    return {name: sorted(list_images(folder / name)) for name in class_names(folder)}


def _fingerprint(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array)
    return digest.hexdigest()


def _read(
    classes: Classes, size: int, bad: dict[str, str], what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and labels; pictures that cannot be used are put into `bad` instead."""
    files = all_files(classes)
    blocks, left_out, done = [], [], 0
    with progress_bar(what, len(files)) as progress:
        for images, problems in read_images(files, (size, size)):
            for index, problem in problems.items():
                left_out.append(done + index)
                bad[files[done + index]] = str(problem)
            blocks.append(np.delete(images, list(problems), axis=0))
            done += len(images)
            progress.update(len(images))
    return np.concatenate(blocks), np.delete(labels_of(classes), left_out)
