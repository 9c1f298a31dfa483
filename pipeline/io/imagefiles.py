"""Decoding image files on all cores, and telling the damaged ones."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from imutils import paths
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.files.reading import read_regular
from pipeline.io.imagesize import image_size

BLOCK = 1000  # images decoded, and kept in memory, at a time
# No camera's pictures come near these; what is above them could fill the memory.
FILE_BYTES_LIMIT = 2**28
PIXELS_LIMIT = 10**8  # 300 MB once decoded, in every thread


def list_images(folder: Path) -> list[str]:
    """Returns the image files in a folder and below, in no order.

    Archives made on a Mac have a hidden `._name.png` beside each, which is not one.
    """
    files = paths.list_images(str(folder))
    return [file for file in files if not os.path.basename(file).startswith(".")]


def progress_bar(what: str, count: int) -> tqdm:
    """Returns a bar for `count` images, shown on a terminal only."""
    # On stdout, since decoders report damage on stderr.
    return tqdm(desc=what, total=count, unit=" images", file=sys.stdout, disable=None)


def read_images(
    files: Sequence[str], size: int, fit: Callable[[np.ndarray], np.ndarray] | None = None
) -> Iterator[tuple[np.ndarray, dict[int, UserError]]]:
    """Decodes image files in order, a block at a time.

    Truncated files are always found. Of damage inside a JPEG only what its decoder notices is: one
    file in three with a single byte of the picture changed at random.

    Args:
        files: their paths.
        size: how many pixels wide and high each image must be.
        fit: makes an image of that size of one of any other, (height, width, 3).

    Yields:
        The next images, uint8 RGB (k, size, size, 3), of grayscale files too; and by index in the
        block what is wrong with those that are left undefined.
    """
    with _threads() as pool:  # OpenCV decodes without holding Python's lock
        for start in range(0, len(files), BLOCK):
            block = files[start : start + BLOCK]
            images = np.empty((len(block), size, size, 3), dtype=np.uint8)
            with _stderr_kept() as complaints:
                problems = pool.starmap(partial(_decode, fit=fit), zip(block, images, strict=True))
                complained = bool(_text(complaints))
            if complained:  # nobody says about which file: one at a time, it is known
                problems = [_decode_alone(*pair, fit) for pair in zip(block, images, strict=True)]
            yield images, {index: error for index, error in enumerate(problems) if error}


@contextmanager
def _threads() -> Iterator[ThreadPool]:
    pool = ThreadPool()
    try:
        yield pool
    finally:
        pool.terminate()
        pool.join()  # one that is still decoding when Python ends would abort the process


def _decode(
    file: str, target: np.ndarray, fit: Callable[[np.ndarray], np.ndarray] | None
) -> UserError | None:
    """Decodes a file into `target`, or returns what is wrong with it."""
    try:
        content = read_regular(file, FILE_BYTES_LIMIT)
    except OSError as error:
        return UserError(f"{file} cannot be read: {error.strerror}")
    size = image_size(content)
    if size and (problem := _wrong_size(*size, None if fit else len(target))):
        return UserError(f"{file} has {problem}")
    # From memory; reading the file itself, OpenCV fills up a truncated JPEG with gray.
    image = size and _decoded(content)
    if image is None:
        return UserError(f"{file} is truncated, damaged or not an image")
    if fit:
        image = fit(image)
    target[:] = image
    return None


def _wrong_size(width: int, height: int, size: int | None) -> str | None:
    if size and (width, height) != (size, size):
        return f"{width}x{height} pixels instead of {size}x{size}"
    if width * height > PIXELS_LIMIT:
        return f"{width}x{height} pixels, and no more than {PIXELS_LIMIT:,} are decoded"
    return None


def _decoded(content: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None


def _decode_alone(
    file: str, target: np.ndarray, fit: Callable[[np.ndarray], np.ndarray] | None
) -> UserError | None:
    with _stderr_kept() as complaints:
        problem = _decode(file, target, fit)
        complaint = _text(complaints)
    return problem or (UserError(f"{file} is damaged ({complaint})") if complaint else None)


@contextmanager
def _stderr_kept() -> Iterator[BinaryIO]:
    # The only place where libjpeg reports damage that it has got over.
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as complaints:
        os.dup2(complaints.fileno(), 2)
        try:
            yield complaints
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").strip()
