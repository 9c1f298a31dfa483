"""Photographs packed into a few large HDF5 files, and trained on from there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from pipeline.errors import UserError
from pipeline.files.hdf5members import DAMAGE, own_member
from pipeline.files.reading import open_regular, read_regular
from pipeline.files.seal import SEAL_BYTES, seal, sealed, unsealed
from pipeline.io.imagefiles import FILE_BYTES_LIMIT
from pipeline.io.imagefolders import lie_divided
from pipeline.io.inspection import DIGEST_BYTES, digest_of
from pipeline.io.photographs import Photograph

PARTS = "pictures_*.hdf5"  # what the files of pictures are called
STORE = "store.json"  # written last: it says which of them belong together
STORE_BYTES_LIMIT = 2**26
REBUILD = f"this file and {STORE}, and start the build again, which packs its pictures anew"

# Names in a file of pictures.
CONTENT = "content"
INDEX = "index"
SHORT_SIDE = "short_side"

# A row of the index, but for the name, whose length differs from file to file.
ROW = {
    "place": "<i8",  # of the picture in the content, in bytes
    "bytes": "<i8",  # 0 for one that was left out
    "width": "<i4",
    "height": "<i4",
    "mean": ("<f8", (3,)),
    "digest": ("u1", (DIGEST_BYTES,)),
    # When it was packed, its file had this size and this time of change, in nanoseconds.
    "file_bytes": "<i8",
    "file_changed": "<i8",
}


def row_type(name_bytes: int) -> np.dtype:
    """Returns the type of an index's rows whose names have at most so many bytes."""
    columns = [("name", f"S{name_bytes}")]
    for column, kind in ROW.items():
        columns.append((column, *kind) if isinstance(kind, tuple) else (column, kind))
    return np.dtype(columns)


def tail(head: BinaryIO, head_bytes: int) -> bytes:
    """Returns what ends a file of pictures: the seal of all in front of the content, its length."""
    return seal(head, head_bytes) + b"%020d\n" % head_bytes


TAIL_BYTES = SEAL_BYTES + 21


def is_store(folder: Path) -> bool:
    """Tells whether there are files of pictures in a folder, of a whole store or not."""
    return (folder / STORE).is_file() or any(folder.glob(PARTS))


@dataclass(frozen=True)
class StoredPhotograph(Photograph):
    """A photograph in a file of pictures, whose digest is compared whenever it is read.

    Attributes:
        path: the file of pictures and the photograph's name, for errors.
        part: the file of pictures.
        place, bytes: where in it the photograph is, and how long.
        digest: of these bytes, as `PictureInfo` has it.
    """

    part: StorePart
    place: int
    bytes: int
    digest: str

    def content(self) -> bytes:
        """Returns what was the photograph's file.

        Raises:
            UserError: it cannot be read, or is not what was packed.
        """
        content = self.part.read(self.place, self.bytes)
        if digest_of(content) != self.digest:
            raise UserError(f"{self.path} is damaged: remove {REBUILD}")
        return content


def names_in(rows: np.ndarray) -> list[str]:
    """Returns the pictures' names in rows of an index."""
    return [os.fsdecode(name) for name in rows["name"].tolist()]


class StorePart:
    """A file of pictures, open for reading.

    It holds `content`, the pictures' files one after the other, uint8 (bytes,), contiguous and last
    in the file; in front of it `index`, a row for each picture, see `ROW`; and the
    data set `short_side`. Behind the content is the seal of all that is in front of it. The content
    itself is not read here: the index has a digest of every picture.

    Any number of threads and forked processes can read at the same time.

    Args:
        path: the file.

    Attributes:
        path: as above.
        index: the rows of the pictures that were not left out.
        left_out: the rows of those that were.
        short_side: to which larger pictures were made smaller, in pixels; 0 for none.
        seal: of index and header.

    Raises:
        UserError: the file cannot be read, is damaged, or is none of these.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file: BinaryIO = open_regular(path)
            self._check_seal()
            with h5py.File(self._file, "r") as hdf5:
                self._read(hdf5)
        except OSError as error:
            reason = "it is damaged" if error.filename is None else error.strerror
            raise self._refused(reason) from error
        except DAMAGE as error:
            raise self._refused(str(error)) from error

    def _check_seal(self) -> None:
        """Compares the seal, before HDF5 has seen anything of the file."""
        end = max(0, self._file.seek(0, os.SEEK_END) - TAIL_BYTES)
        self._file.seek(end)
        self.seal = self._file.read()
        self._start, self._end = int(self.seal[SEAL_BYTES:] or -1), end
        if not 0 < self._start < end or tail(self._file, self._start) != self.seal:
            raise ValueError("it is truncated, damaged or not written by this project")

    def _read(self, hdf5: h5py.File) -> None:
        content, index, short_side = (
            own_member(hdf5, name, h5py.Dataset) for name in (CONTENT, INDEX, SHORT_SIDE)
        )
        if content.dtype != np.uint8 or content.shape != (self._end - self._start,):
            raise ValueError(f"its content is {content.dtype} {content.shape}")
        if content.id.get_offset() != self._start:
            raise ValueError("its content lies elsewhere")
        names = "name" in (index.dtype.names or ())
        if index.ndim != 1 or not names or index.dtype != row_type(index.dtype["name"].itemsize):
            raise ValueError(f"its index is {index.dtype} {index.shape}")
        rows = index[:]
        self.index = rows[rows["bytes"] > 0]
        self.left_out = rows[rows["bytes"] == 0]
        places, lengths = self.index["place"], self.index["bytes"]
        room = np.minimum(content.shape[0] - places, FILE_BYTES_LIMIT)
        if not ((places >= 0) & (lengths <= room)).all():
            raise ValueError("its index leads out of it")
        self.short_side = int(short_side[0])

    def names(self) -> list[str]:
        """Returns the pictures' names in the order of the index."""
        return names_in(self.index)

    def read(self, place: int, count: int) -> bytes:
        """Returns `count` bytes of the content, from `place` on.

        Raises:
            UserError: the file cannot be read, or has become shorter.
        """
        blocks = []
        place += self._start
        while count:
            try:
                block = os.pread(self._file.fileno(), count, place)
            except OSError as error:
                raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
            if not block:
                raise UserError(f"{self.path} has become shorter since it was opened")
            blocks.append(block)
            place, count = place + len(block), count - len(block)
        return b"".join(blocks)

    def _refused(self, reason: str) -> UserError:
        return UserError(f"{self.path} cannot be used ({reason}): remove {REBUILD}")


class PhotographStore:
    """The photographs of a folder, packed by `pack_photographs`.

    Opening it reads the index alone, a thousandth of the whole.

    Args:
        folder: the files of pictures.

    Attributes:
        names: of the photographs, the paths of their files below the folder that was packed, in
            alphabetical order.
        infos: what is known of each, by its name.
        titles: what classes are called, by the name of their folder, where it is not so.

    Raises:
        UserError: the store is unfinished, a file is missing or damaged, or is of another store.
    """

    def __init__(self, folder: Path):
        seals, self.titles = _read_store(folder)
        self._parts = [StorePart(folder / name) for name in seals]
        for part, expected in zip(self._parts, seals.values(), strict=True):
            if part.seal.hex() != expected:
                raise UserError(
                    f"{part.path} is not of one build with {folder / STORE}: remove {REBUILD}"
                )
        names = [name for part in self._parts for name in part.names()]
        order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
        self.names = [names[row] for row in order]
        levels = 2 if lie_divided(names) else 1
        if any(name.count("/") < levels for name in names):
            raise UserError(f"{folder} has a picture of no class: remove it and build it again")
        if len(set(names)) < len(names):
            raise UserError(f"{folder} has a picture twice: remove it and build it again")
        counts = [len(part.index) for part in self._parts]
        self._part = np.repeat(np.arange(len(counts)), counts)[order]
        self._rows = {
            column: np.concatenate([part.index[column] for part in self._parts])[order]
            for column in ROW
            if not column.startswith("file_")
        }
        self.infos = _StoredInfos(self.names, self._rows)

    def photographs(self, names: Sequence[str]) -> StoredPhotographs:
        """Returns the photographs of these names."""
        rows = np.fromiter((self.infos.row[name] for name in names), np.int64, len(names))
        return StoredPhotographs(self, rows)

    def photograph(self, row: int) -> StoredPhotograph:
        """Returns a photograph by the place of its name."""
        part = self._parts[self._part[row]]
        known: dict[str, Any] = {
            column: int(self._rows[column][row]) for column in ("width", "height", "place", "bytes")
        }
        known["digest"] = self.infos.digest(row)
        return StoredPhotograph(f"{part.path}, {self.names[row]}", part=part, **known)


class StoredPhotographs:
    """Some of a store's photographs, made when they are asked for.

    Args:
        store: the store.
        rows: which of its photographs, (n,).

    Attributes:
        dtype: of what it gathers: objects.
    """

    dtype = np.dtype(object)

    def __init__(self, store: PhotographStore, rows: np.ndarray):
        self._store, self._rows = store, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Returns the photographs of the given indices, (k,), an array of objects (k,)."""
        photographs = np.empty(len(indices), dtype=object)
        photographs[:] = [self._store.photograph(row) for row in self._rows[indices].tolist()]
        return photographs


class _StoredInfos(Mapping):
    """What is known of stored photographs, by their names."""

    def __init__(self, names: Sequence[str], rows: Mapping[str, np.ndarray]):
        self.row = {name: number for number, name in enumerate(names)}
        self.rows = rows
        self._digests = rows["digest"].tobytes().hex()

    def digest(self, row: int) -> str:
        """Returns the digest of the photograph in a row."""
        digits = 2 * DIGEST_BYTES
        return self._digests[digits * row : digits * (row + 1)]

    def __getitem__(self, name: str) -> _StoredInfo:
        return _StoredInfo(self, self.row[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.row)

    def __len__(self) -> int:
        return len(self.row)


class _StoredInfo:
    """A `PictureInfo` that takes from the index what it is asked for, as there may be millions."""

    __slots__ = ("_infos", "_row")

    def __init__(self, infos: _StoredInfos, row: int):
        self._infos, self._row = infos, row

    @property
    def width(self) -> int:
        return self._infos.rows["width"].item(self._row)

    @property
    def height(self) -> int:
        return self._infos.rows["height"].item(self._row)

    @property
    def mean(self) -> tuple[float, float, float]:
        return tuple(self._infos.rows["mean"][self._row].tolist())

    @property
    def digest(self) -> str:
        return self._infos.digest(self._row)


def store_text(seals: Mapping[str, str], titles: Mapping[str, str]) -> bytes:
    """Returns what stands in a store's JSON: its files of pictures with their seals, and titles."""
    text = json.dumps({"parts": dict(seals), "titles": dict(titles)}, indent=1)
    return sealed(text.encode())


def _read_store(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    path = folder / STORE
    try:
        store: Any = json.loads(unsealed(read_regular(path, STORE_BYTES_LIMIT)))
        texts = [
            text
            for mapping in (store["parts"], store["titles"])
            for pair in mapping.items()
            for text in pair
        ]
        if not store["parts"] or not all(isinstance(text, str) for text in texts):
            raise ValueError
        if not all(fnmatch(name, PARTS) and Path(name).name == name for name in store["parts"]):
            raise ValueError
        return store["parts"], store["titles"]
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is unfinished: start the build again, which continues where it stopped"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: remove it and start the build again") from error
