"""The pictures that an exported network is calibrated on and compared by."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_images

from pipeline.errors import UserError, one_line
from pipeline.io.imagefiles import list_images, read_images
from pipeline.nn.spec import NetworkSpec

SAMPLE_CUTS = (1, 2, 4)  # into how many parts a photograph's height is cut


def sample_photographs(spec: NetworkSpec) -> np.ndarray:
    """Cuts scikit-learn's two photographs into parts of several sizes, resized to a network's.

    Returns:
        uint8 RGB images (n, height, width, 3).
    """
    crop = spec.centre_crop
    parts = []
    for photograph in load_sample_images().images:
        height, width = photograph.shape[:2]
        for side in (height // cuts for cuts in SAMPLE_CUTS):
            for top in range(0, height - side + 1, side):
                for left in range(0, width - side + 1, side):
                    part = photograph[top : top + side, left : left + side]
                    parts.append(crop.preprocess(part))
    return np.stack(parts)


def find_pictures(folder: Path) -> list[str]:
    """Returns the image files in a folder and below, sorted.

    Raises:
        UserError: there are none.
    """
    files = sorted(list_images(folder))
    if not files:
        raise UserError(f"{folder}: there is no such folder, or no pictures in it")
    return files


def read_pictures(files: Sequence[str], spec: NetworkSpec) -> Iterator[np.ndarray]:
    """Reads pictures of any size at a network's, a block at a time.

    Yields:
        uint8 RGB images (k, height, width, 3).

    Raises:
        UserError: a file is no picture.
    """
    for images, bad in read_images(files, spec.image_shape[:2], spec.centre_crop.preprocess):
        for problem in bad.values():
            raise problem
        yield images


def labels_by_folder(
    folder: Path, files: Sequence[str], label_names: Sequence[str]
) -> np.ndarray | None:
    """Takes the right classes from the names of the folders that the files are in.

    Of several folders called as classes the one highest up counts, below `folder` if there is one.

    Returns:
        Labels (n,); None, after a note, where a file is in no folder that is called as a class.
    """
    labels = {name: label for label, name in enumerate(label_names)}
    here, found = os.path.abspath(folder), []
    for file in files:
        names = (*Path(file).relative_to(folder).parts[:-1], os.path.basename(here))
        label = next((labels[name] for name in names if name in labels), None)
        if label is None:
            note = f"{file} is in no folder that is called as one of the classes"
            print(one_line(f"note: {note}: what is classified right is not counted"))
            return None
        found.append(label)
    return np.array(found)
