"""Streams that can no longer be written to."""

import os
from typing import TextIO


def silence(stream: TextIO) -> None:
    """Lets a stream of the process go nowhere from now on, what it still holds included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
