"""Photographs in a folder for each class: finding, checking and dividing them."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import UserError, one_line
from pipeline.files.wholefolder import whole_folder
from pipeline.io.dataset import Dataset
from pipeline.io.imagefiles import SUFFIXES, list_files
from pipeline.io.imagefolders import (
    TEST,
    TRAIN,
    VAL,
    Classes,
    all_files,
    find_classes,
    labels_of,
    lie_divided,
    refuse_bad,
    some,
)
from pipeline.io.inspection import PictureInfo, digest_of, inspect
from pipeline.io.miniatures import write_photographs
from pipeline.io.photographs import Photograph, Photographs
from pipeline.io.photographstore import PhotographStore, is_store

ENLARGED = 4  # a picture that would have to be enlarged further than this is too small
FEW = 10  # training pictures; a class that has fewer is told
UNBALANCED = 3  # the largest class has so many times the smallest's pictures


class Splits(NamedTuple):
    """The files to train on, those in `val` and those in `test`; empty without such a folder."""

    train: Classes
    val: Classes
    test: Classes


def read_photograph_folder(
    path: str | None,
    size: int,
    holdout: float = 0.2,
    skip_bad: bool = False,
    record: Path | None = None,
    centre: float = 1.0,
    remember: bool = True,
) -> Dataset:
    """Reads photographs in `<class>/` or `{train,val,test}/<class>/`, after a look at every one.

    What is found is printed: how many there are, and what may be wrong with them. Of those that
    `pack_photographs` has packed, it is known already.

    Args:
        path: the folder, or what it was packed into; without one, windows of scikit-learn's two
            photographs are written beside the record, of two classes.
        size: width and height that photographs are brought to, in pixels.
        holdout: share of every class that is validated on where there is no `val`. It is chosen by
            the files' contents: always alike, and the same file twice is on one side.
        skip_bad: whether to go on without pictures that cannot be used.
        record: where what is known of each picture is remembered.
        centre: what of a picture is evaluated on; see `Photographs`.
        remember: whether anything is written there.

    Returns:
        `Photographs`, whose mean is the mean colour of the training pictures.

    Raises:
        UserError: see `find_classes`, or a class has too few pictures to train on and to validate
            on.
        BadImages: pictures cannot be used; all of them have been printed.
    """
    folder = Path(path) if path else _sample(record)
    if is_store(folder):
        store = PhotographStore(folder)
        splits, infos, titles = _split(store.names), store.infos, store.titles
        gathered, others = store.photographs, ()
    else:
        splits, titles = find_photographs(folder), {}
        files = [file for classes in splits for file in all_files(classes)]
        infos = inspect(files, record, remember)
        others = _left_alone(folder)

        def gathered(files: list[str]) -> list[Photograph]:
            return [Photograph(file, infos[file].width, infos[file].height) for file in files]

    if bad := _bad(infos, size):
        refuse_bad(bad, len(infos), skip_bad)
        splits = Splits(*(_without(classes, bad) for classes in splits))
    training, validation, test = splits
    held_out = not validation
    where = f"in {folder / VAL}"
    if held_out:
        training, validation = _held_out(training, infos, holdout)
        where = f"held out ({holdout:.0%} of each class)"
    names = tuple(training)
    for classes, name in ((training, "train"), (validation, "validate")):
        if empty := [label for label in names if not classes.get(label)]:
            raise UserError(f"{folder} has no pictures of {some(empty)} to {name} on")
    if test and not all_files(test):
        raise UserError(f"{folder} has no pictures to test on that can be used")
    in_the_end = f", {len(all_files(test)):,} to test on in the end" if test else ""
    summary = (
        f"{folder}: {len(names)} classes, {len(all_files(training)):,} pictures to train on, "
        f"{len(all_files(validation)):,} to validate on, {where}{in_the_end}"
    )
    notes = (*others, *_notes(Splits(training, validation, test), infos))
    for line in (summary, *(f"note: {note}" for note in notes)):
        print(one_line(line))

    def photographs(classes: Classes) -> tuple[Photographs, np.ndarray]:
        return Photographs(gathered(all_files(classes)), size, centre), labels_of(classes)

    mean = np.mean([infos[file].mean for file in all_files(training)], axis=0, dtype=np.float64)
    test_images, test_labels = photographs(test) if test else (None, None)
    return Dataset(
        *photographs(training),
        *photographs(validation),
        tuple(titles.get(name, name) for name in names),
        mean.astype(np.float32),
        name=folder.resolve().name,
        val_part="held out" if held_out else "",
        fingerprint=_fingerprint(Splits(training, validation, test), infos),
        test_images=test_images,
        test_labels=test_labels,
    )


def _sample(record: Path | None) -> Path:
    folder = (record.parent if record else Path()) / "sample_photographs"
    if not folder.exists():
        with whole_folder(folder) as unfinished:
            write_photographs(unfinished)
    return folder


def find_photographs(folder: Path, parts: Iterable[str] = (VAL, TEST)) -> Splits:
    """Returns the files in `<class>/` or, of train and some parts, `{train,val,test}/<class>/`.

    Raises:
        UserError: see `find_classes`.
    """
    found = find_classes(folder, parts)
    return Splits(*(found.get(part, {}) for part in Splits._fields))


def names_of_photographs(folder: Path, parts: Iterable[str] = (VAL, TEST)) -> dict[str, str]:
    """Returns the photographs' files by the names under which they are packed.

    Raises:
        UserError: see `find_classes`.
    """
    files = itertools.chain.from_iterable(map(all_files, find_photographs(folder, parts)))
    return {os.path.relpath(file, folder): file for file in files}


def _split(names: Iterable[str]) -> Splits:
    """Returns the pictures of a store, whose names are paths as `find_photographs` finds them."""
    parts = defaultdict(lambda: defaultdict(list))
    divided = lie_divided(names)
    for name in names:
        split, label, *_ = name.split("/") if divided else (TRAIN, *name.split("/"))
        parts[split][label].append(name)
    classes = sorted(parts[TRAIN])
    return Splits(
        *(
            {label: parts[split][label] for label in classes} if parts[split] else {}
            for split in Splits._fields
        )
    )


def _without(classes: Classes, bad: Mapping[str, str]) -> Classes:
    return {name: [f for f in files if f not in bad] for name, files in classes.items()}


def _bad(infos: Mapping[str, PictureInfo | UserError], size: int) -> dict[str, str]:
    bad = {}
    for file, info in infos.items():
        if isinstance(info, UserError):
            bad[file] = str(info)
        elif min(info.width, info.height) * ENLARGED < size:
            pixels = f"{info.width}x{info.height} pixels"
            bad[file] = f"{file} has {pixels}: too small to be enlarged to {size}x{size}"
    return bad


def _held_out(
    classes: Classes, infos: Mapping[str, PictureInfo | UserError], share: float
) -> tuple[Classes, Classes]:
    training, validation = {}, {}
    for name, files in classes.items():
        # In the order of their digests, which is as good as drawn.
        digests = sorted({infos[file].digest for file in files})
        if len(digests) < 2:
            raise UserError(
                f"the class {name} has {len(digests)} different pictures that can be used, and "
                "needs two: one to train on and one to validate on"
            )
        count = min(max(round(len(digests) * share), 1), len(digests) - 1)
        held = set(digests[:count])
        training[name] = [file for file in files if infos[file].digest not in held]
        validation[name] = [file for file in files if infos[file].digest in held]
    return training, validation


def _notes(splits: Splits, infos: Mapping[str, PictureInfo | UserError]) -> Iterable[str]:
    """Says what a person should know before hours are spent."""
    counts = {name: len(files) for name, files in splits.train.items()}
    if few := [name for name, count in counts.items() if count < FEW]:
        yield f"fewer than {FEW} pictures to train on: {some(few)}"
    if missing := [name for name, files in splits.test.items() if not files]:
        yield f"no pictures to test on of {some(missing)}"
    largest, smallest = max(counts, key=counts.get), min(counts, key=counts.get)
    if counts[largest] >= UNBALANCED * counts[smallest]:
        yield (
            f"the classes are unbalanced: {largest} has {counts[largest]:,} pictures to train on, "
            f"{smallest} {counts[smallest]:,}"
        )
    seen = Counter(infos[file].digest for classes in splits for file in all_files(classes))
    places = {digest: [] for digest, count in seen.items() if count > 1}
    for split, classes in splits._asdict().items():
        for name, files in classes.items():
            for file in files:
                if (found := places.get(infos[file].digest)) is not None:
                    found.append((split, name, file))
    twice = [sorted(found) for found in places.values()]

    in_splits = [{split: file for split, _, file in found} for found in twice]
    in_classes = [{name: file for _, name, file in found} for found in twice]

    def in_both(*splits: str) -> list[list[str]]:
        return [[f[split] for split in splits] for f in in_splits if set(splits) <= f.keys()]

    for where, same in (
        (
            "both the training and the validation set, which inflates the accuracy",
            in_both(TRAIN, VAL),
        ),
        ("both the training and the test set, which inflates the accuracy", in_both(TRAIN, TEST)),
        (
            "two classes, one of which is wrong",
            [list(files.values()) for files in in_classes if len(files) > 1],
        ),
    ):
        if same:
            first, second, *_ = same[0]
            yield f"the same picture in {where}: {len(same):,}, for example {first} and {second}"


def _fingerprint(splits: Splits, infos: Mapping[str, PictureInfo | UserError]) -> str:
    digests = [
        [[infos[file].digest for file in files] for files in classes.values()]
        for classes in (splits if splits.test else splits[:2])  # as before there were tests
    ]
    return digest_of(json.dumps(digests).encode())


def _left_alone(folder: Path) -> Iterable[str]:
    others = {Path(file).suffix.lower() for file in list_files(folder)}
    if kinds := [kind or "without a suffix" for kind in sorted(others - set(SUFFIXES))]:
        yield f"ignored files of other kinds: {', '.join(kinds)}"
