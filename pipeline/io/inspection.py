"""Looking at every picture of a folder once, and remembering what was found."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import UserError
from pipeline.files.atomic import write_atomically
from pipeline.files.reading import read_regular
from pipeline.files.seal import sealed, unsealed
from pipeline.io.imagefiles import PIXELS_LIMIT, examine_images, progress_bar

DIGEST_BYTES = 16
SECONDS_AT_STAKE = 60  # of looking at pictures, if a kill comes
RECORD_BYTES_LIMIT = 2**31  # ten million pictures

State = list[int] | None
"""A file's size and time of change."""


@dataclass(frozen=True)
class PictureInfo:
    """What there is to know about a picture that is whole.

    Attributes:
        width, height: in pixels, as it is shown.
        mean: its mean red, green and blue, 0 to 255.
        digest: of the file; two files of one digest are the same.
    """

    width: int
    height: int
    mean: tuple[float, float, float]
    digest: str

    @classmethod
    def of(cls, content: bytes, image: np.ndarray) -> PictureInfo:
        """Describes a file's content and its image, uint8 (height, width, 3)."""
        height, width = image.shape[:2]
        return cls(width, height, cv2.mean(image)[:3], digest_of(content))


def digest_of(content: bytes) -> str:
    """Returns the digest of a file's content, as `PictureInfo` has it."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def inspect(
    files: Sequence[str], record: Path | None = None, remember: bool = True
) -> dict[str, PictureInfo | UserError]:
    """Looks at pictures on all cores, with a progress bar on a terminal.

    Args:
        files: their paths.
        record: a file in which what was found is kept, also when this is interrupted; a kill loses
            no more than the last minute. A picture whose size and time of change are as recorded
            there is not looked at again.
        remember: whether what is found is written there.

    Returns:
        What is known of each file, or what is wrong with it, in the order of `files`.
    """
    states = {file: state_of(file) for file in files}
    known = _read(record) if record else {}
    infos: dict[str, PictureInfo | UserError | None] = {}
    for file in files:
        state, info = known.get(file, (None, None))
        infos[file] = info if state and state == states[file] else None
    new = [file for file in files if infos[file] is None]

    def write() -> None:
        if record and new and remember:
            _write(record, {f: (states[f], info) for f, info in infos.items()})

    written = time.monotonic()
    try:
        with progress_bar("looking", len(new)) as progress:
            for file, info in zip(new, examine_images(new, PictureInfo.of), strict=True):
                infos[file] = info
                progress.update()
                if time.monotonic() - written > SECONDS_AT_STAKE:
                    write()
                    written = time.monotonic()
    finally:
        write()
    return infos


def state_of(file: str) -> State:
    """Returns a file's size, in bytes, and its time of change, in ns; None where there is none."""
    try:
        status = os.stat(file)
    except OSError:  # looking at it will tell
        return None
    return [status.st_size, status.st_mtime_ns]


def _read(record: Path) -> dict[str, tuple[list[int], PictureInfo]]:
    try:
        remembered = json.loads(unsealed(read_regular(record, RECORD_BYTES_LIMIT)))
        return {
            file: (state, _checked(PictureInfo(**info)))
            for file, (state, info) in remembered.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}  # every picture is looked at anew


def _checked(info: PictureInfo) -> PictureInfo:
    sound = (
        type(info.width) is type(info.height) is int
        and min(info.width, info.height) > 0
        and info.width * info.height <= PIXELS_LIMIT
        and [type(value) for value in info.mean] == [float] * 3
        and all(map(math.isfinite, info.mean))
        and len(bytes.fromhex(info.digest)) == DIGEST_BYTES
    )
    if not sound:
        raise ValueError(f"{info} is not a picture's record")
    return info


def _write(record: Path, infos: dict[str, tuple[State, PictureInfo | UserError | None]]) -> None:
    # What is wrong may be mended without a trace in the file's state.
    whole = {
        file: (state, asdict(info))
        for file, (state, info) in infos.items()
        if isinstance(info, PictureInfo)
    }
    write_atomically(record, sealed(json.dumps(whole).encode()))
