"""Decoding image files on all cores, and telling the damaged ones."""

import io
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import cv2
import numpy as np
from imutils import paths
from PIL import Image, ImageOps
from tqdm import tqdm

from pipeline.errors import UserError
from pipeline.files.reading import read_regular
from pipeline.io.imagesize import JPEG, OTHERS, PNG, image_size

SUFFIXES = (*paths.image_types, ".webp")
BLOCK, BLOCK_BYTES = 1000, 2**26  # images decoded, and kept in memory, at a time
# No camera's pictures come near these; what is above them could fill the memory.
FILE_BYTES_LIMIT = 2**28
PIXELS_LIMIT = 10**8  # 300 MB once decoded, in every thread

# By how much an image is made smaller while it is decoded, and OpenCV's flags for it.
REDUCTIONS = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
# What decoders say of images that are whole: of colour profiles and notes that they do not know.
_HARMLESS = re.compile(
    r"^(libpng warning: (?!IDAT).*|TIFF\w+: Warning, .*"  # OpenCV 4's words for TIFF, and 5's:
    r"|\[ WARN:\S+ global grfmt_tiff\.cpp:\d+ TIFF_Warning TIFF\w+: .*)$",
    re.MULTILINE,
)

# Its thread would draw a bar anew amid what is taken for a decoder's complaint.
tqdm.monitor_interval = 0

Found = TypeVar("Found")


def list_images(folder: Path) -> Iterator[str]:
    """Finds the image files among `list_files`."""
    return (file for file in list_files(folder) if file.lower().endswith(SUFFIXES))


def list_files(folder: Path) -> Iterator[str]:
    """Finds the files in a folder and below, in no order.

    Links to folders are followed, to each folder once. Hidden files and folders are left out:
    archives made on a Mac have a `._name.png` beside each picture, file managers a folder of small
    copies.
    """
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # links may lead in a circle
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(place, name) for name in names if not name.startswith("."))


def progress_bar(what: str, count: int) -> tqdm:
    """Returns a bar for `count` images, shown on a terminal only."""
    # On stdout, since decoders report damage on stderr.
    return tqdm(desc=what, total=count, unit=" images", file=sys.stdout, disable=None)


def read_images(
    files: Sequence[str],
    shape: tuple[int, int],
    fit: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Iterator[tuple[np.ndarray, dict[int, UserError]]]:
    """Decodes image files in order, a block at a time.

    Truncated files are always found. Of damage inside a JPEG only what its decoder notices is: one
    file in three with a single byte of the picture changed at random.

    Args:
        files: their paths.
        shape: height and width that each image must have, in pixels.
        fit: makes an image of that shape of one of any other, (height, width, 3).

    Yields:
        The next images, uint8 RGB (k, height, width, 3), of grayscale files too; and by index in
        the block what is wrong with those that are left undefined.
    """
    count = max(1, min(BLOCK, BLOCK_BYTES // (3 * math.prod(shape))))
    with _threads() as pool:  # OpenCV decodes without holding Python's lock
        for start in range(0, len(files), count):
            block = files[start : start + count]
            images = np.empty((len(block), *shape, 3), dtype=np.uint8)
            problems = _heeded(pool, partial(_decode, fit=fit), zip(block, images, strict=True))
            yield images, {index: error for index, error in enumerate(problems) if error}


def examine_images(
    files: Sequence[str], function: Callable[[bytes, np.ndarray], Found]
) -> Iterator[Found | UserError]:
    """Decodes image files of any size on all cores, and keeps what a function makes of each.

    Args:
        files: their paths.
        function: takes a file's content and its image, uint8 RGB (height, width, 3).

    Yields:
        For each file in order what the function returns, or what is wrong with the file.
    """

    def examine(file: str) -> Found | UserError:
        try:
            content = read_image_file(file)
            return function(content, decoded(file, content))
        except UserError as error:
            return error

    block = BLOCK // 10  # so that a progress bar moves
    with _threads() as pool:
        for start in range(0, len(files), block):
            yield from _heeded(pool, examine, ((file,) for file in files[start : start + block]))


def read_image_file(file: str) -> bytes:
    """Returns a file's content.

    Raises:
        UserError: it cannot be read, or it is empty or larger than any picture.
    """
    try:
        content = read_regular(file, FILE_BYTES_LIMIT)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    if not content:
        raise UserError(f"{file} is empty")
    return content


def decoded(
    file: str, content: bytes, reduction: int = 1, shape: tuple[int, int] | None = None
) -> np.ndarray:
    """Decodes an image as a viewer shows it: turned as its EXIF data say, and without an alpha
    channel, on white.

    Args:
        file: its name, for errors.
        content: of the file.
        reduction: by how much a JPEG may be made smaller, 1 or a key of `REDUCTIONS`: decoding
            then takes less time. Other images come as large as they are.
        shape: height and width that the image must have, in pixels; any, if left out.

    Returns:
        uint8 RGB (height, width, 3); a JPEG's height and width divided by `reduction`, rounded up.

    Raises:
        UserError: it is truncated, damaged, not an image, of another size or absurdly large.
    """
    found = image_size(content)
    if found and (problem := _wrong_size(*found, shape)):
        raise UserError(f"{file} has {problem}")
    # From memory; reading the file itself, OpenCV fills up a truncated JPEG with gray.
    image = found and _decoded(content, reduction if content.startswith(JPEG) else 1)
    if image is None:
        raise UserError(f"{file} is truncated, damaged or not an image")
    return image


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
        image = decoded(file, read_image_file(file), shape=None if fit else target.shape[:2])
    except UserError as error:
        return error
    target[:] = fit(image) if fit else image
    return None


def _wrong_size(width: int, height: int, shape: tuple[int, int] | None) -> str | None:
    if shape and (height, width) != shape:
        return f"{width}x{height} pixels instead of {shape[1]}x{shape[0]}"
    if width * height > PIXELS_LIMIT:
        return f"{width}x{height} pixels, and no more than {PIXELS_LIMIT:,} are decoded"
    return None


def _decoded(content: bytes, reduction: int) -> np.ndarray | None:
    data = np.frombuffer(content, dtype=np.uint8)
    try:
        if _has_alpha(content):
            return _on_white(content)
        if reduction == 1:
            return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        image = cv2.imdecode(data, REDUCTIONS[reduction])
        return image if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)
    except cv2.error:
        return None


def _has_alpha(content: bytes) -> bool:
    if content.startswith(JPEG):
        return False
    if content.startswith(PNG):  # https://www.w3.org/TR/png-3/#3colourType, #11tRNS
        depth, colour = content[24:26]
        # Of 16 bits Pillow makes other levels; the one colour that is transparent is shown instead.
        if depth == 16 and colour in (0, 2):
            return False
        return colour in (4, 6) or b"tRNS" in content[: content.find(b"IDAT")]
    with Image.open(io.BytesIO(content), formats=OTHERS) as image:
        return image.has_transparency_data


def _on_white(content: bytes) -> np.ndarray | None:
    # OpenCV leaves the channel out, and shows the colours that were not to be seen.
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", *OTHERS)) as image:
            picture = ImageOps.exif_transpose(image).convert("RGBA")
    except Exception:  # Pillow raises nearly anything over a damaged file
        return None
    white = Image.new("RGBA", picture.size, "white")
    return np.array(Image.alpha_composite(white, picture).convert("RGB"))


def _heeded(
    pool: ThreadPool, decode: Callable[..., Found | UserError], arguments: Iterator[tuple]
) -> list[Found | UserError]:
    """Decodes on all threads, and takes what a decoder complains of for what is wrong."""
    arguments = list(arguments)
    with _stderr_kept() as complaints:
        results = pool.starmap(decode, arguments)
        complained = bool(_text(complaints))
    if complained:  # nobody says about which file: one at a time, it is known
        results = [_decode_alone(decode, *of_file) for of_file in arguments]
    return results


def _decode_alone(
    decode: Callable[..., Found | UserError], file: str, *arguments: Any
) -> Found | UserError:
    with _stderr_kept() as complaints:
        result = decode(file, *arguments)
        complaint = _text(complaints)
    if isinstance(result, UserError) or not complaint:
        return result
    return UserError(f"{file} is damaged ({complaint})")


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
    return _HARMLESS.sub("", file.read().decode(errors="replace")).strip()
