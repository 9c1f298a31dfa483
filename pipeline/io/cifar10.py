"""CIFAR-10 from a local copy in any of its usual forms, Keras's cache, or the network."""

import bz2
import gzip
import hashlib
import lzma
import os
import pickle
import tarfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import keras
import numpy as np

from pipeline.errors import UserError
from pipeline.files.reading import open_regular, read_regular
from pipeline.io.dataset import Dataset
from pipeline.io.imagefolders import holds_image_folders, read_image_folders

LABEL_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
SIZE = 32
FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
ORIGIN = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_BATCH = "test_batch"
# A pickle can do anything while it is read, so none but these six files, by their SHA-256, is.
BATCHES_SHA256 = {
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
}
BATCH_BYTES_LIMIT = 32 * 2**20  # the largest has 31,035,999 bytes
TAR_BYTES_LIMIT = 256 * 2**20  # unpacked, the archive has 186 MB
TAR_STEP_LIMIT = 2**16  # bytes that are read at a time; tarfile reads a header at once
TAR_MEMBERS_LIMIT = 100  # the archive has nine
_UNPACKERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


def read_cifar10(path: str | None = None, skip_bad: bool = False) -> Dataset:
    """Reads CIFAR-10.

    Args:
        path: the folder `cifar-10-batches-py`, the archive `cifar-10-python.tar.gz`, or a folder
            of 32x32 pictures of any classes (see `read_image_folders`). Without it, Keras's cache
            is used, and filled by a download where it is empty.
        skip_bad: whether to go on without pictures that cannot be used.

    Returns:
        The data set; its classes come in alphabetical order, as in the original archive.

    Raises:
        UserError: the data are missing, damaged or not CIFAR-10's, or the download failed.
    """
    source = Path(path) if path else _cached_or_downloaded()
    if source.exists() and not source.is_dir():
        return _read_archive(source)
    if (source / TEST_BATCH).is_file() or (source / TRAIN_BATCHES[0]).is_file():
        return _read_batches(lambda name: _read_batch(source / name), str(source))
    if (source / FOLDER).is_dir():
        return read_cifar10(str(source / FOLDER))
    if source.is_dir() and holds_image_folders(source):
        return read_image_folders(source, SIZE, skip_bad)
    what = "there is no such file or folder" if not source.exists() else "it holds no data set"
    raise UserError(
        f"{source}: {what}; give the folder {FOLDER}, the archive {ARCHIVE} or a folder of "
        "pictures, train/<class>/*.png and test/<class>/*.png"
    )


def _cached_or_downloaded() -> Path:
    cache = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"
    for folder in (cache / f"{FOLDER}-target" / FOLDER, cache / FOLDER):
        if (folder / TEST_BATCH).is_file():
            return folder
    try:
        return Path(keras.utils.get_file(ARCHIVE, ORIGIN, file_hash=SHA256))
    except Exception as error:  # get_file raises whatever the network gives it
        raise UserError(
            f"CIFAR-10 could not be downloaded from {ORIGIN} ({error}). Its host is slow and often "
            f"out of reach: put a copy of {ARCHIVE} from elsewhere into {cache}, or name a local "
            f"copy as the data (the archive, the extracted folder {FOLDER}, or a folder with "
            "train/<class>/*.png and test/<class>/*.png), or train on the digits data set, which "
            "needs none"
        ) from error


def _read_batch(path: Path) -> bytes:
    try:
        return read_regular(path, BATCH_BYTES_LIMIT)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _read_archive(path: Path) -> Dataset:
    # Members are read into memory, nothing is extracted: a hostile archive has no path to write to.
    try:
        with (
            open_regular(path) as file,
            _unpacked(file) as unpacked,
            tarfile.open(fileobj=_Limited(unpacked), mode="r:") as archive,
        ):
            members = {}
            for count, info in enumerate(archive):
                members[info.name] = info
                if count > TAR_MEMBERS_LIMIT:
                    raise ValueError(f"it has more than {TAR_MEMBERS_LIMIT} files")

            def member(name: str) -> bytes:
                info = members.get(f"{FOLDER}/{name}")
                if info is None:
                    raise FileNotFoundError(name)
                if not info.isreg() or info.size > BATCH_BYTES_LIMIT:
                    raise ValueError(f"its {name} is not a plain file of CIFAR-10's size")
                content = archive.extractfile(info)
                return b"".join(iter(lambda: content.read(TAR_STEP_LIMIT), b""))

            data = _read_batches(member, str(path))
            while archive.fileobj.read(TAR_STEP_LIMIT):
                pass  # to the end, where gzip compares its checksum
            return data
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path} is damaged or not a tar archive ({reason}): copy it again"
        ) from error


def _unpacked(file: BinaryIO) -> BinaryIO:
    start = file.read(6)
    file.seek(0)
    unpack = next((unpack for magic, unpack in _UNPACKERS.items() if start.startswith(magic)), None)
    return unpack(file) if unpack else file


class _Limited:
    """A file that is read up to a limit and in small steps, whatever sizes a header claims."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= TAR_STEP_LIMIT:
            raise ValueError(f"a header in it has {size:,} bytes")
        self._refuse_beyond(self._file.tell() + size)
        return self._file.read(size)

    def seek(self, place: int) -> int:
        self._refuse_beyond(place)
        return self._file.seek(place)

    def _refuse_beyond(self, place: int) -> None:
        if place > TAR_BYTES_LIMIT:
            raise ValueError(f"it has more than the {TAR_BYTES_LIMIT:,} bytes of CIFAR-10's")


def _read_batches(read_batch: Callable[[str], bytes], where: str) -> Dataset:
    def read(name: str) -> tuple[np.ndarray, np.ndarray]:
        try:
            content = read_batch(name)
        except FileNotFoundError as error:
            raise UserError(f"{where}: {name} is missing") from error
        if hashlib.sha256(content).hexdigest() != BATCHES_SHA256[name]:
            raise UserError(
                f"{where}: {name} is not that of CIFAR-10's authors, but damaged or pickled anew: "
                f"give their archive {ARCHIVE} or a folder with train/<class>/*.png and "
                "test/<class>/*.png"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, of how its own pickles were written once
            batch = pickle.loads(content, encoding="bytes")
        images = batch[b"data"].reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), np.array(batch[b"labels"], dtype=np.int32)

    train = [read(name) for name in TRAIN_BATCHES]
    test_images, test_labels = read(TEST_BATCH)
    return Dataset(
        np.concatenate([images for images, _ in train]),
        np.concatenate([labels for _, labels in train]),
        test_images,
        test_labels,
        LABEL_NAMES,
        val_part="test set",
    )
