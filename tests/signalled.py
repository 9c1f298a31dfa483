"""Signals at a certain point of a process, which it sends to itself: its speed is no matter.

As a script, `signalled.py EPOCH SIGNAL SCRIPT [OPTION...]` runs another script that way.
"""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from forkedscript import ROOT

CHANGES = ("open", "os.rename", "os.link", "os.remove")


def signal_in(epoch: int, number: int) -> None:
    """Has this process get a signal in the second batch of an epoch, from 1."""
    import keras

    callbacks = keras.callbacks.CallbackList
    begin_epoch, begin_batch = callbacks.on_epoch_begin, callbacks.on_train_batch_begin
    under_way = None

    def on_epoch_begin(self, index, logs=None):
        nonlocal under_way
        under_way = index + 1
        begin_epoch(self, index, logs)

    def on_train_batch_begin(self, batch, logs=None):
        begin_batch(self, batch, logs)
        if (under_way, batch) == (epoch, 1):
            os.kill(os.getpid(), number)

    callbacks.on_epoch_begin, callbacks.on_train_batch_begin = on_epoch_begin, on_train_batch_begin


def changes(watch) -> None:
    """Has `watch(event, paths)` called right before this process makes, names or removes a file.

    Between two such changes nothing changes but the content of a temporary file. The events are
    Python's audit events; of `open`, that to write.
    """

    def hook(event, arguments):
        if event in CHANGES and (event != "open" or str(arguments[1]).startswith(("w", "x"))):
            paths = [str(path) for path in arguments[: 1 if event in ("open", "os.remove") else 2]]
            watch(event, paths)

    sys.addaudithook(hook)


def signal_before(event: str, name: str, number: int, since: str = "") -> None:
    """Has this process get a signal right before a change, the first of its kind.

    Args:
        event: what kind, of CHANGES.
        name: part of a path that it changes.
        number: of the signal.
        since: part of a path that must have been changed before.
    """
    counting = not since

    def watch(happening, paths):
        nonlocal counting
        if counting and happening == event and any(name in path for path in paths):
            os.kill(os.getpid(), number)
        counting |= any(since in path for path in paths)

    changes(watch)


@contextmanager
def in_terminal(
    command: list[str], of_sighup: signal.Handlers = signal.SIG_DFL
) -> Iterator[tuple[subprocess.Popen, int]]:
    """Starts a process from a terminal of its own, and kills it in the end.

    Its output is buffered, whatever that of the tests is.

    Args:
        command: what is started, in the project's folder.
        of_sighup: what it does when the terminal is closed.

    Yields:
        The process, and our end of the terminal, to be closed.
    """
    ours, its = os.openpty()
    buffered = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    take = partial(_take, os.ttyname(its), of_sighup)
    with subprocess.Popen(command, cwd=ROOT, env=buffered, preexec_fn=take) as process:
        try:
            os.close(its)
            yield process, ours
        finally:
            process.kill()


def _take(terminal: str, of_sighup: signal.Handlers) -> None:
    signal.signal(signal.SIGHUP, of_sighup)
    os.setsid()
    descriptor = os.open(terminal, os.O_RDWR)
    for standard in range(3):
        os.dup2(descriptor, standard)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    epoch, number, script, *arguments = sys.argv[1:]
    signal_in(int(epoch), int(number))
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
