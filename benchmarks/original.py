"""The original's way to the data, as a stand-in to measure against: one image at a time.

Images are stored as float64 and read through h5py; each is split into its channels to subtract the
mean, and augmented as Keras's former ImageDataGenerator did it, with a call of SciPy a channel.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
from scipy import ndimage

BUFFER = 1000  # images gathered before they are written


def build(files: Sequence[str], labels: Sequence[int], path: Path) -> np.ndarray:
    """Decodes image files into a float64 HDF5 file; returns the mean blue, green and red."""
    colours = []
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (len(files), 64, 64, 3), dtype="float")
        file.create_dataset("labels", data=labels, dtype="int")
        for start in range(0, len(files), BUFFER):
            buffer = []
            for name in files[start : start + BUFFER]:
                image = cv2.imread(name)
                colours.append(cv2.mean(image)[:3])
                buffer.append(image)
            images[start : start + len(buffer)] = buffer
    return np.mean(colours, axis=0)


def hdf5_batches(
    path: Path, mean: np.ndarray, classes: int, batch_size: int, augmentation: dict | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the batches of one pass over a file of `build`, augmented on request."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "r") as file:
        for start in range(0, len(file["labels"]), batch_size):
            images = file["images"][start : start + batch_size]
            labels = np.eye(classes)[file["labels"][start : start + batch_size]]
            images = np.array([_preprocess(image, mean) for image in images])
            if augmentation:
                images = np.array([_augment(image, rng, **augmentation) for image in images])
            yield images, labels


def array_batches(
    images: np.ndarray, labels: np.ndarray, classes: int, batch_size: int, augmentation: dict
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the augmented batches of one epoch over float32 images in memory."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(images))
    for start in range(0, len(images), batch_size):
        chosen = order[start : start + batch_size]
        batch = np.array([_augment(image, rng, **augmentation) for image in images[chosen]])
        yield batch, np.eye(classes)[labels[chosen]]


def _preprocess(image: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Resizes, subtracts the mean and converts, as three preprocessors in a row did."""
    image = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    blue, green, red = cv2.split(image.astype("float32"))
    image = cv2.merge([blue - mean[0], green - mean[1], red - mean[2]])
    return np.asarray(image, dtype="float32")


def _augment(
    image: np.ndarray,
    rng: np.random.Generator,
    rotation: float = 0.0,
    zoom: float = 0.0,
    shift: float = 0.0,
    shear: float = 0.0,
    flip: bool = False,
) -> np.ndarray:
    height, width = image.shape[:2]
    matrix = np.eye(3)
    if rotation:
        angle = np.deg2rad(rng.uniform(-rotation, rotation))
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = matrix @ [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]
    if shift:
        rows, columns = rng.uniform(-shift, shift, 2) * (height, width)
        matrix = matrix @ [[1, 0, rows], [0, 1, columns], [0, 0, 1]]
    if shear:
        angle = np.deg2rad(rng.uniform(-shear, shear))
        matrix = matrix @ [[1, -np.sin(angle), 0], [0, np.cos(angle), 0], [0, 0, 1]]
    if zoom:
        rows, columns = rng.uniform(1 - zoom, 1 + zoom, 2)
        matrix = matrix @ [[rows, 0, 0], [0, columns, 0], [0, 0, 1]]
    centre = np.array([height / 2 - 0.5, width / 2 - 0.5])
    offset = matrix[:2, 2] + centre - matrix[:2, :2] @ centre
    channels = [
        ndimage.affine_transform(channel, matrix[:2, :2], offset, order=1, mode="nearest")
        for channel in np.moveaxis(image, -1, 0)
    ]
    image = np.stack(channels, axis=-1)
    return image[:, ::-1] if flip and rng.random() < 0.5 else image
