"""Seals: a line after a file's data with their SHA-256, which tells a whole file from a torn one.

HDF5 readers pass over what comes after the data. A seal is not a signature: whoever changes a file
on purpose can seal it anew.
"""

import hashlib
import io
import os
import re
from typing import BinaryIO

SEAL = b"\nsha256:%s\n"
SEAL_BYTES = len(SEAL % hashlib.sha256().hexdigest().encode())
_FORM = re.compile(rb"\nsha256:[0-9a-f]{64}\n")
_BLOCK = 2**20


def seal(file: BinaryIO, size: int) -> bytes:
    """Returns the seal of a file's first `size` bytes; the file is left at their end."""
    digest = hashlib.sha256()
    file.seek(0)
    while size and (block := file.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)
    return SEAL % digest.hexdigest().encode()


def sealed(content: bytes) -> bytes:
    """Returns a file's content with its seal."""
    return content + seal(io.BytesIO(content), len(content))


def unsealed(content: bytes) -> bytes:
    """Returns a file's content without its seal.

    Raises:
        ValueError: it is not what was sealed, or never was.
    """
    if not is_sealed(io.BytesIO(content)):
        raise ValueError("truncated, damaged or not written by this project")
    return content[:-SEAL_BYTES]


def is_sealed(file: BinaryIO) -> bool:
    """Tells whether a file ends with the seal of all that stands before it."""
    size = file.seek(0, os.SEEK_END) - SEAL_BYTES
    if size < 0:
        return False
    file.seek(size)
    claimed = file.read()
    # The form first: what is no file of ours at all may be of any length.
    return bool(_FORM.fullmatch(claimed)) and seal(file, size) == claimed
