"""Miniature data sets in the layouts of the real ones, cut from scikit-learn's two photographs.

A class is a place in one of the photographs, and its images are windows around there at random, so
that there is something to learn. They are the same wherever they are made.
"""

from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_sample_images

SEED = 42
TEMPLE, FLOWER = 0, 1  # the photographs, both of 427x640 pixels

CIFAR10_SIZE = 32  # pixels, both ways
# Photograph, and top, bottom, left and right of the part that the windows lie in.
CIFAR10_CLASSES = {
    "bush": (TEMPLE, 310, 415, 345, 560),
    "heart": (FLOWER, 165, 255, 260, 345),
    "lake": (TEMPLE, 232, 288, 340, 535),
    "leaf": (FLOWER, 80, 320, 5, 135),
    "petals": (FLOWER, 250, 335, 215, 415),
    "roof": (TEMPLE, 60, 130, 120, 305),
    "shade": (FLOWER, 130, 415, 495, 630),
    "sky": (TEMPLE, 5, 190, 340, 620),
    "tree": (TEMPLE, 150, 400, 565, 635),
    "wall": (TEMPLE, 285, 340, 95, 320),
}

TINY_IMAGENET_SIZE = 64
TINY_IMAGENET_GRID = (10, 10)  # rows and columns of places in each photograph
SHIFT = 6  # pixels from a place at most
GRAY_EVERY = 50  # about as many images of the real set are gray

PHOTOGRAPHS = {"temple": TEMPLE, "flower": FLOWER}
PHOTOGRAPH_SIDES = (64, 160)  # pixels, least and largest


def write_cifar10(folder: Path) -> None:
    """Writes `{train,test}/<class>/*.png` into a new folder, 32x32 pixels, of 10 classes.

    Raises:
        OSError: a file could not be written.
    """
    photographs, rng = _photographs(), np.random.default_rng(SEED)
    for split, count in (("train", 200), ("test", 100)):
        for name, (photograph, top, bottom, left, right) in CIFAR10_CLASSES.items():
            (folder / split / name).mkdir(parents=True)
            part = photographs[photograph][top:bottom, left:right]
            for number in range(count):
                rows, columns = (rng.integers(side - CIFAR10_SIZE + 1) for side in part.shape[:2])
                window = part[rows:, columns:][:CIFAR10_SIZE, :CIFAR10_SIZE]
                _write(folder / split / name / f"{number:04}.png", window)


def write_tiny_imagenet(folder: Path) -> None:
    """Writes the layout of `tiny-imagenet-200.zip` into a new folder: JPEGs of 64x64 pixels.

    Of 200 classes; some are gray. The validation images lie in one folder, with their labels in a
    file; the test images, which have none, are left out.

    Raises:
        OSError: a file could not be written.
    """
    photographs, rng = _photographs(), np.random.default_rng(SEED)
    places = [
        (photograph, row, column)
        for photograph in (TEMPLE, FLOWER)
        for row in range(TINY_IMAGENET_GRID[0])
        for column in range(TINY_IMAGENET_GRID[1])
    ]
    ids = [f"n{10_000_000 + number}" for number in range(len(places))]
    written = 0

    def write(path: Path, place: tuple[int, int, int]) -> None:
        nonlocal written
        photograph = photographs[place[0]]
        corner = []
        for index, side, cells in zip(
            place[1:], photograph.shape, TINY_IMAGENET_GRID, strict=False
        ):
            centred = index * (side - TINY_IMAGENET_SIZE) // (cells - 1)
            shifted = centred + rng.integers(-SHIFT, SHIFT + 1)
            corner.append(np.clip(shifted, 0, side - TINY_IMAGENET_SIZE))
        window = photograph[corner[0] :, corner[1] :][:TINY_IMAGENET_SIZE, :TINY_IMAGENET_SIZE]
        if written % GRAY_EVERY == 0:
            window = cv2.cvtColor(window, cv2.COLOR_BGR2GRAY)
        _write(path, window)
        written += 1

    boxes = f"0\t0\t{TINY_IMAGENET_SIZE - 1}\t{TINY_IMAGENET_SIZE - 1}\n"
    for wordnet_id, place in zip(ids, places, strict=True):
        images = folder / "train" / wordnet_id / "images"
        images.mkdir(parents=True)
        names = [f"{wordnet_id}_{number}.JPEG" for number in range(10)]
        for name in names:
            write(images / name, place)
        boxes_file = images.parent / f"{wordnet_id}_boxes.txt"
        boxes_file.write_text("".join(f"{name}\t{boxes}" for name in names))

    images = folder / "val" / "images"
    images.mkdir(parents=True)
    annotations = []
    for number, label in enumerate(rng.permutation(np.repeat(np.arange(len(ids)), 5))):
        write(images / f"val_{number}.JPEG", places[label])
        annotations.append(f"val_{number}.JPEG\t{ids[label]}\t{boxes}")
    (folder / "val" / "val_annotations.txt").write_text("".join(annotations))

    (folder / "wnids.txt").write_text("".join(f"{ids[i]}\n" for i in rng.permutation(len(ids))))
    words = [
        f"{wordnet_id}\t{('temple', 'flower')[photograph]}, row {row}, column {column}\n"
        for wordnet_id, (photograph, row, column) in zip(ids, places, strict=True)
    ]
    (folder / "words.txt").write_text("n00001740\tentity\n" + "".join(words))


def write_photographs(folder: Path, count: int = 60) -> None:
    """Writes `<class>/*.jpg`, pictures of many sizes: windows of the temple and of the flower.

    Args:
        folder: where the two classes' folders go.
        count: pictures a class.

    Raises:
        OSError: a file could not be written.
    """
    photographs, rng = _photographs(), np.random.default_rng(SEED)
    least, largest = PHOTOGRAPH_SIDES
    for name, photograph in PHOTOGRAPHS.items():
        (folder / name).mkdir(parents=True)
        whole = photographs[photograph]
        for number in range(count):
            height, width = rng.integers(least, largest + 1, 2)
            top, left = rng.integers(whole.shape[:2] - np.array([height, width]) + 1)
            window = whole[top : top + height, left : left + width]
            _write(folder / name / f"{number:03}.jpg", window)


def _photographs() -> list[np.ndarray]:
    """Returns both, uint8 BGR (427, 640, 3), as OpenCV writes them."""
    return [cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image in load_sample_images().images]


def _write(path: Path, image: np.ndarray) -> None:
    _, data = cv2.imencode(path.suffix, image)
    path.write_bytes(data)
