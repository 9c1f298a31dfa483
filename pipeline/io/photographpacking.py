"""Packing a folder of photographs into a few large HDF5 files, which takes hours for millions."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import h5py
import numpy as np

from pipeline.errors import UserError, one_line
from pipeline.files.atomic import write_atomically
from pipeline.files.hdf5stream import HDF5Stream, head_of
from pipeline.files.lock import lock
from pipeline.io.imagefiles import examine_images, progress_bar, read_image_file
from pipeline.io.imagefolders import TRAIN, lie_divided, refuse_bad, some
from pipeline.io.inspection import PictureInfo, State, digest_of, state_of
from pipeline.io.photographstore import (
    CONTENT,
    INDEX,
    PARTS,
    SHORT_SIDE,
    STORE,
    StorePart,
    names_in,
    row_type,
    store_text,
    tail,
)

PART_BYTES = 2**31  # so much of the pictures' files goes into one file; a kill costs no more
JPEG_QUALITY = 95  # of pictures that are made smaller


def pack_photographs(
    pictures: Mapping[str, str],
    folder: Path,
    short_side: int | None = None,
    titles: Mapping[str, str] | None = None,
    skip_bad: bool = False,
) -> None:
    """Packs photographs into HDF5 files, from which a `PhotographStore` reads them.

    Every picture is decoded once, on all cores, to see whether it is whole; its bytes stay as they
    are. A file of pictures gets its name once it is on disk, and is kept whatever then happens:
    called again, this goes on with the pictures that are in none of them yet. Of pictures that
    have changed since, the whole file is packed anew. What is in memory are one block of pictures
    and the index.

    Args:
        pictures: the path of each picture's file, by the name that it is to have.
        folder: where the files go; made where it is missing.
        short_side: a picture whose width and height are both larger is made smaller, so that the
            lesser of them has so many pixels, and becomes a JPEG; None leaves all as they are.
        titles: what classes are called, by the name of their folder, where it is not so.
        skip_bad: whether to go on without pictures that cannot be used.

    Raises:
        UserError: pictures cannot be used, the files cannot be written, or the folder has other
            pictures.
    """
    with lock(folder):
        for left in folder.glob(f".{PARTS}.tmp"):  # by a kill
            left.unlink()
        states = {name: state_of(file) for name, file in pictures.items()}
        parts = _earlier_parts(folder, states, short_side or 0)
        packed = {name for part in parts for name in part.names()}
        whole = (folder / STORE).exists()  # then what is not packed has been left out
        rest = [] if whole else [name for name in pictures if name not in packed]
        bad: dict[str, str] = {}
        with progress_bar("packing", len(pictures)) as progress:
            progress.update(len(packed))
            for names in _in_parts(rest, states):
                with _PartWriter(_unused(folder), names, states, short_side or 0) as writer:
                    for name, problem in writer.pack(pictures):
                        progress.update()
                        if problem:
                            bad[pictures[name]] = str(problem)
                if writer.path.exists():
                    parts.append(StorePart(writer.path))
        if bad:
            refuse_bad(bad, len(pictures), skip_bad)
        packed = {name for part in parts for name in part.names()}
        divided = lie_divided(pictures)
        if empty := _needed(pictures, divided) - _needed(packed, divided):
            raise UserError(f"no picture of {some(empty)} can be used")
        parts.sort(key=lambda part: part.path)
        seals = {part.path.name: part.seal.hex() for part in parts}
        write_atomically(folder / STORE, store_text(seals, titles or {}))
    count = sum(len(part.index) for part in parts)
    size = sum(part.path.stat().st_size for part in parts)
    left_out = len(pictures) - count
    print(one_line(f"{folder}: {count:,} pictures, {size:,} bytes, {left_out:,} left out"))


def _needed(names: Iterable[str], divided: bool) -> set[str]:
    """Returns the folders that pictures of these names lie in, of which none must become empty.

    They are those of each class to train on, and val and test as a whole.
    """
    places = (name.split("/") for name in names)
    return {
        f"{first}/{second}" if divided and first == TRAIN else first for first, second, *_ in places
    }


def _earlier_parts(folder: Path, states: Mapping[str, State], short_side: int) -> list[StorePart]:
    """Returns the files of pictures that are there and can be gone on with; removes the others."""
    parts, known = [], set()
    for path in sorted(folder.glob(PARTS)):
        part = StorePart(path)
        known |= set(_fresh(part.left_out, states))
        if part.short_side != short_side:
            made = f"with --short-side {part.short_side}" if part.short_side else "as they are"
            raise UserError(
                f"{folder} has pictures packed {made}: pack these alike, or into another folder"
            )
        fresh = _fresh(part.index, states)
        if len(fresh) == len(part.index):
            parts.append(part)
            known |= set(fresh)
        elif not fresh or (folder / STORE).exists():
            raise UserError(
                f"{folder} has other pictures, or earlier versions of these: name another folder"
            )
        else:
            path.unlink()
    if (folder / STORE).exists() and (more := len(states.keys() - known)):
        raise UserError(
            f"{folder} is complete already, with {len(states) - more:,} of these "
            f"{len(states):,} pictures: name another folder"
        )
    return parts


def _fresh(rows: np.ndarray, states: Mapping[str, State]) -> list[str]:
    """Returns the names in an index of the files that are as they were."""
    were = zip(names_in(rows), rows[["file_bytes", "file_changed"]].tolist(), strict=True)
    return [name for name, state in were if name in states and _recorded(states[name]) == [*state]]


def _recorded(state: State) -> list[int]:
    """Returns what the index has of the state of a file, which a broken link does not have."""
    return state or [0, 0]


def _in_parts(names: Sequence[str], states: Mapping[str, State]) -> Iterator[list[str]]:
    """Yields the names, in order, of as many pictures as go into one file."""
    part: list[str] = []
    size = 0
    for name in names:
        part.append(name)
        size += _recorded(states[name])[0]
        if size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _unused(folder: Path) -> Path:
    paths = (folder / PARTS.replace("*", f"{number:05}") for number in itertools.count(1))
    return next(path for path in paths if not path.exists())


class _PartWriter:
    """Writes a file of pictures, see `StorePart`, under a temporary name until it is whole.

    To be used in a `with` statement: its end closes the file, an exception removes it. Without a
    single good picture there is no file.

    Args:
        path: the file to create.
        names: of the pictures.
        states: of all pictures' files, by their names.
        short_side: as for `pack_photographs`, 0 for None.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(
        self, path: Path, names: Sequence[str], states: Mapping[str, State], short_side: int
    ):
        self.path = path
        self._short_side = short_side
        encoded = [os.fsencode(name) for name in names]
        self._names = names
        self._index = np.zeros(len(names), row_type(max(map(len, encoded))))
        self._index["name"] = encoded
        for column, number in (("file_bytes", 0), ("file_changed", 1)):
            self._index[column] = [_recorded(states[name])[number] for name in names]
        self._bytes = 0
        self._stream = HDF5Stream(path)
        self._stream.file.seek(len(self._head()))

    def pack(self, pictures: Mapping[str, str]) -> Iterator[tuple[str, UserError | None]]:
        """Packs the pictures, whose files are given by name.

        Yields:
            The name of each, and what is wrong with it if it is left out.

        Raises:
            UserError: the file cannot be written, or a picture is changed meanwhile.
        """
        files = [pictures[name] for name in self._names]
        found = examine_images(files, self._examine)
        for row, name, file, info in zip(self._index, self._names, files, found, strict=True):
            if isinstance(info, UserError):
                yield name, info
                continue
            info, content = info
            if content is None:
                content = read_image_file(file)
                if digest_of(content) != info.digest:
                    raise UserError(f"{file} has changed while it was packed: start again")
            with self._stream.errors_named():
                self._stream.file.write(content)
            for column in ("width", "height", "mean"):
                row[column] = getattr(info, column)
            row["digest"] = np.frombuffer(bytes.fromhex(info.digest), np.uint8)
            row["place"], row["bytes"] = self._bytes, len(content)
            self._bytes += len(content)
            yield name, None

    def _examine(self, content: bytes, image: np.ndarray) -> tuple[PictureInfo, bytes | None]:
        """Returns what is known of a picture, and its new content if it is made smaller."""
        height, width = image.shape[:2]
        if not 0 < self._short_side < min(height, width):
            # The content is read once more: a block of large files could fill the memory.
            return PictureInfo.of(content, image), None
        scale = self._short_side / min(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
        content = encoded.tobytes()
        return PictureInfo.of(content, image), content

    def __enter__(self) -> _PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._bytes:
            self._stream.finish(self._complete)
        else:
            self._stream.abandon()

    def _complete(self, file: BinaryIO) -> None:
        head = self._head()
        file.write(tail(io.BytesIO(head), len(head)))
        file.seek(0)
        file.write(head)

    def _head(self) -> bytes:
        """Returns the file as HDF5 makes it, up to where the content begins."""
        return head_of(CONTENT, (max(1, self._bytes),), self._describe)

    def _describe(self, file: h5py.File) -> None:
        file[SHORT_SIDE] = np.array([self._short_side])
        file[INDEX] = self._index
