"""Streams that can no longer be written to."""

import errno
import os
from typing import TextIO

# What writing fails with once the terminal, or the program that reads a pipe, is gone.
NOBODY_READS = (errno.EIO, errno.EPIPE)


def silence(stream: TextIO) -> None:
    """Lets a stream of the process go nowhere from now on, what it still holds included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
