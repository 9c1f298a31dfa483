"""Pictures in a folder for each class."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import BadImages, UserError, one_line
from pipeline.io.dataset import Dataset
from pipeline.io.imagefiles import SUFFIXES, list_images, progress_bar, read_images

TRAIN = "train"
# Which of these stands beside it, the first that is there, and what its images are.
PARTS = {"test": "test set", "val": ""}
HELD_OUT = 0.2  # share of the images that stands in for such a part
SHOWN = 3  # names in a message


def holds_image_folders(root: Path) -> bool:
    """Says whether a folder looks as `read_image_folders` needs it."""
    classes = class_names(root)
    alone = len(classes) > 1 and all(_has_pictures(root / name) for name in classes)
    return (root / TRAIN).is_dir() or alone


def read_image_folders(root: Path, size: int, skip_bad: bool = False) -> Dataset:
    """Reads pictures laid out as `{train,test}/<class>`, `{train,val}/<class>` or `<class>`.

    Where there is but one part, one image in five is held out to evaluate on, the same share of
    every class and always the same ones.

    Args:
        root: the folder.
        size: how many pixels wide and high each picture must be.
        skip_bad: whether to go on without pictures that cannot be used.

    Returns:
        The data set; its classes are the folders' names in alphabetical order.

    Raises:
        UserError: there are no classes, or one has no training images.
        BadImages: pictures cannot be used; all of them have been printed.
    """
    train = root / TRAIN if (root / TRAIN).is_dir() else root
    part = next((name for name in PARTS if (root / name).is_dir()), None) if train != root else None
    names = class_names(train)
    if not names:
        raise UserError(f"{train} has no class folders")
    if part and (unknown := sorted(set(class_names(root / part)) - set(names))):
        raise UserError(f"{root / part / unknown[0]} has no counterpart in {train}")
    bad: dict[str, str] = {}
    images, labels = _read(train, names, size, bad)
    test_images, test_labels = images[:0], labels[:0]
    if part:
        test_images, test_labels = _read(root / part, names, size, bad)
    if bad:
        refuse_bad(bad, len(images) + len(test_images) + len(bad), skip_bad)
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        raise UserError(f"{train / names[counts.argmin()]} has no images: add some, or remove it")

    if part is None:
        data = Dataset(images, labels, test_images, test_labels, names, name=root.resolve().name)
        return data.with_held_out(max(round(HELD_OUT * len(labels)), len(names)))
    for label in sorted(set(range(len(names))) - set(test_labels.tolist())):
        print(one_line(f"warning: {root / part / names[label]} has no images"), file=sys.stderr)
    return Dataset(
        images,
        labels,
        test_images,
        test_labels,
        names,
        name=root.resolve().name,
        test_part=PARTS[part],
    )


def class_names(folder: Path) -> tuple[str, ...]:
    """Returns the names of the folders in a folder, those of classes, in alphabetical order."""
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return tuple(sorted(entry.name for entry in entries if entry.is_dir()))


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
        raise BadImages(f"{found}, {files}: mend or remove what is listed above")
    print(f"{found} and are left out")


def some(names: Iterable[str]) -> str:
    """Returns the first few names, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _has_pictures(folder: Path) -> bool:
    # Not below it: that could be the whole disk.
    return any(entry.suffix.lower() in SUFFIXES for entry in folder.iterdir())


def _read(
    folder: Path, names: Sequence[str], size: int, bad: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and labels; pictures that cannot be used are put into `bad` instead."""
    files, labels = [], []
    for label, name in enumerate(names):
        found = sorted(list_images(folder / name)) if (folder / name).is_dir() else []
        files += found
        labels += [label] * len(found)
    if not files:
        raise UserError(f"{folder} has no images in its class folders")
    blocks, left_out, done = [], [], 0
    with progress_bar(folder.name, len(files)) as progress:
        for images, problems in read_images(files, size):
            for index, problem in problems.items():
                left_out.append(done + index)
                bad[files[done + index]] = str(problem)
            blocks.append(np.delete(images, list(problems), axis=0))
            done += len(images)
            progress.update(len(images))
    return np.concatenate(blocks), np.delete(np.array(labels, dtype=np.int32), left_out)
