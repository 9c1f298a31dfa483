"""What may stand in a file's place: pipes, devices, endless files; and an end to waiting for it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def sparse(path: Path) -> None:
    """50 GB that take no room on the disk."""
    with open(path, "wb") as file:
        file.truncate(50 * 10**9)


SPECIAL = [pipe, endless, folder, link_to_itself]


@contextmanager
def at_once(seconds: float = 5) -> Iterator[None]:
    """Fails instead of waiting for ever."""

    def too_long(*_: object) -> None:
        raise AssertionError("it waits, or reads without an end")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
