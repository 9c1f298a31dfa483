"""CIFAR-10 from a local copy in any of its usual forms, Keras's cache, or the network."""

import lzma
import os
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import keras
import numpy as np

from pipeline.errors import UserError
from pipeline.io.dataset import Dataset
from pipeline.io.imagefiles import list_images, read_images

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
BATCH_BYTES_LIMIT = 64 * 2**20  # a batch of 10,000 images takes 31 MB


def read_cifar10(path: str | None = None) -> Dataset:
    """Reads CIFAR-10.

    Args:
        path: the folder `cifar-10-batches-py`, the archive `cifar-10-python.tar.gz`, or a folder
            `{train,test}/<class>/*.png`. Without it, Keras's cache is used, and filled by a
            download where it is empty.

    Returns:
        The data set; its classes come in alphabetical order, as in the original archive.

    Raises:
        UserError: the data are missing, damaged or not CIFAR-10's, or the download failed.
    """
    source = Path(path) if path else _cached_or_downloaded()
    if source.is_file():
        return _read_archive(source)
    if (source / TEST_BATCH).is_file() or (source / TRAIN_BATCHES[0]).is_file():
        return _read_batches(lambda name: open(source / name, "rb"), str(source))
    if (source / FOLDER).is_dir():
        return read_cifar10(str(source / FOLDER))
    if (source / "train").is_dir() and (source / "test").is_dir():
        return _read_image_folders(source)
    what = "there is no such file or folder" if not source.exists() else "it holds no data set"
    raise UserError(
        f"--data {source}: {what}; give the folder {FOLDER}, the archive {ARCHIVE} "
        "or a folder with train/<class>/*.png and test/<class>/*.png"
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
            f"copy with --data PATH (the archive, the extracted folder {FOLDER}, or a folder with "
            "train/<class>/*.png and test/<class>/*.png), or run on the embedded data set with "
            "--dataset digits"
        ) from error


def _read_archive(path: Path) -> Dataset:
    # Members are read into memory, nothing is extracted: a hostile archive has no path to write to.
    try:
        with tarfile.open(path) as archive:

            def member(name: str) -> BinaryIO:
                try:
                    info = archive.getmember(f"{FOLDER}/{name}")
                except KeyError as error:
                    raise FileNotFoundError(name) from error
                if not info.isfile():
                    raise ValueError("it is not a plain file")
                return archive.extractfile(info)

            data = _read_batches(member, str(path))
            while archive.fileobj.read(2**20):
                pass  # to the end, where gzip compares its checksum
            return data
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged or not a tar archive ({error}): copy it again"
        ) from error


def _read_batches(open_batch: Callable[[str], BinaryIO], where: str) -> Dataset:
    def read(name: str) -> tuple[np.ndarray, np.ndarray]:
        place = f"{where}: {name}"
        try:
            with open_batch(name) as file:
                batch = _CifarUnpickler(_Limited(file), encoding="bytes").load()
            images = batch[b"data"].pixels
            labels = np.asarray(batch[b"labels"], dtype=np.int32)
            if labels.shape != (len(images),) or images.shape != (len(labels), 3 * SIZE * SIZE):
                raise ValueError(f"its images are {images.shape}, its labels {labels.shape}")
            if not 0 <= labels.min() <= labels.max() < len(LABEL_NAMES):
                raise ValueError(f"its labels go from {labels.min()} to {labels.max()}")
        except FileNotFoundError as error:
            raise UserError(f"{place} is missing") from error
        except Exception as error:  # a damaged pickle can raise nearly anything
            what = str(error) or type(error).__name__
            raise UserError(f"{place} is damaged or not CIFAR-10's ({what})") from error
        images = images.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(images), labels

    train = [read(name) for name in TRAIN_BATCHES]
    test_images, test_labels = read(TEST_BATCH)
    return Dataset(
        np.concatenate([images for images, _ in train]),
        np.concatenate([labels for _, labels in train]),
        test_images,
        test_labels,
        LABEL_NAMES,
    )


class _Limited:
    """A file that ends with an error instead of filling the memory."""

    def __init__(self, file: BinaryIO):
        self._file, self._left = file, BATCH_BYTES_LIMIT

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._left:
            raise ValueError("it is larger than any batch of CIFAR-10")
        self._left -= size
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise ValueError("it is larger than any batch of CIFAR-10")
        return line


class _Array:
    """Takes the place of a NumPy array while a pickle is read.

    NumPy's own unpickling lets a file make an array of pointers to wherever it likes.
    """

    def __init__(self, *arguments: object):
        """Is called with NumPy's classes and an empty shape; the state tells everything."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        if dtype.name != "u1":
            raise pickle.UnpicklingError(f"it has an array of {dtype.name}")
        order = "F" if is_fortran else "C"
        self.pixels = np.frombuffer(data, dtype=np.uint8).reshape(shape, order=order)


class _Dtype:
    """Takes the place of a NumPy dtype while a pickle is read."""

    def __init__(self, name: bytes | str, *arguments: object):
        self.name = name.decode() if isinstance(name, bytes) else name

    def __setstate__(self, state: tuple) -> None:
        """Forgets byte order and the like, which mean nothing to single bytes."""


def _encode(text: str, encoding: str) -> bytes:
    """Takes the place of `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}")
    return text.encode("latin1")


_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _CifarUnpickler(pickle.Unpickler):
    """Admits what CIFAR-10's pickles hold, bytes and plain containers, and runs nothing else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ADMITTED[module, name]


def _read_image_folders(root: Path) -> Dataset:
    names = tuple(sorted(folder.name for folder in _folders(root / "train")))
    if not names:
        raise UserError(f"--data {root}: train/ has no class folders")
    test_names = {folder.name for folder in _folders(root / "test")}
    if unknown := sorted(test_names - set(names)):
        raise UserError(f"--data {root}: test/{unknown[0]} has no counterpart in train/")
    train_images, train_labels = _read_images(root / "train", names)
    test_images, test_labels = _read_images(root / "test", names)
    return Dataset(train_images, train_labels, test_images, test_labels, names)


def _folders(path: Path) -> Iterator[Path]:
    return (entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _read_images(folder: Path, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    files, labels = [], []
    for label, name in enumerate(names):
        found = sorted(list_images(folder / name))
        files += found
        labels += [label] * len(found)
    if not files:
        raise UserError(f"{folder} has no images in its class folders")
    blocks = []
    for images, problems in read_images(files, SIZE):
        if problems:
            raise next(iter(problems.values()))
        blocks.append(images)
    return np.concatenate(blocks), np.array(labels, dtype=np.int32)
