"""The original's way to the data, to measure against: one image at a time.

Images are stored as float64 and read through h5py; each is split into its channels to subtract the
mean, and augmented by the former ImageDataGenerator, which Keras still carries.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator

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
    generator = _generator(**augmentation) if augmentation else None
    with h5py.File(path, "r") as file:
        for start in range(0, len(file["labels"]), batch_size):
            images = file["images"][start : start + batch_size]
            labels = np.eye(classes)[file["labels"][start : start + batch_size]]
            images = np.array([_preprocess(image, mean) for image in images])
            if generator:
                images, labels = next(generator.flow(images, labels, batch_size))
            yield images, labels


def array_batches(
    images: np.ndarray, labels: np.ndarray, classes: int, batch_size: int, augmentation: dict
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Returns augmented batches of float32 images in memory, without an end."""
    generator = _generator(**augmentation)
    return generator.flow(images, np.eye(classes)[labels], batch_size)


def _generator(
    rotation: float = 0,
    zoom: float = 0,
    shift: float = 0,
    shear: float = 0,
    flip: bool = False,
    nearest: bool = False,
) -> ImageDataGenerator:
    return ImageDataGenerator(
        rotation_range=rotation,
        zoom_range=zoom,
        width_shift_range=shift,
        height_shift_range=shift,
        shear_range=shear,
        horizontal_flip=flip,
        fill_mode="nearest",
        interpolation_order=0 if nearest else 1,
    )


def _preprocess(image: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Resizes, subtracts the mean and converts, as three preprocessors in a row did."""
    image = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    blue, green, red = cv2.split(image.astype("float32"))
    image = cv2.merge([blue - mean[0], green - mean[1], red - mean[2]])
    return np.asarray(image, dtype="float32")
